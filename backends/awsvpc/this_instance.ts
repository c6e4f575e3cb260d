/**
 * The part of the aws-vpc backend that talks to EC2. Importing it loads AWS's SDK.
 *
 * @module
 */
import { CLOCK } from "./clock.ts";
import { Ec2Calls, sdkClient } from "./client.ts";
import { Credentials } from "./credentials.ts";
import { refuseMetadataV1, whereWeAre } from "./metadata.ts";
import { VpcRoutes, type VpcRoutesInput } from "./routes.ts";

/** The reconciler of this instance's routes. */
export function ofThisInstance(input: VpcRoutesInput): VpcRoutes {
  refuseMetadataV1();
  const credentials = new Credentials();
  return new VpcRoutes(input, {
    where: whereWeAre,
    ec2: (region, signal) => {
      const client = sdkClient(region, credentials, signal);
      signal.addEventListener("abort", () => client.destroy());
      return new Ec2Calls(client, signal);
    },
    clock: CLOCK,
  });
}
