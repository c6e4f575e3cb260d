/** A mistake in what the agent was told: one line for the user, exit status 2. */
export class UsageError extends Error {
  override name = "UsageError";
}
