/**
 * Whether an answer is one of AWS's, and comes to its end.
 *
 * @module
 */
import { pipeline, type Readable, Transform } from "node:stream";
import type { NodeHttpHandler } from "@smithy/node-http-handler";
import { TransportError } from "./http_errors.ts";

type Response = Awaited<ReturnType<NodeHttpHandler["handle"]>>["response"];

/** Bytes; a page of the largest route tables has ten million. */
const LARGEST = 32_000_000;

const WEB_PAGE = /^(text\/html|application\/xhtml)/i;

const BETWEEN =
  "check AWS_ENDPOINT_URL_EC2, and whether a proxy or firewall on the way lets this " +
  "node through to the host";

/**
 * The response, whose body fails with a {@linkcode TransportError} where it does not end.
 *
 * @param name of the server
 * @param limit milliseconds for the body
 * @throws {TransportError} where something else than AWS answered: its services send neither web pages
 *   nor redirects
 */
export function checkedResponse(response: Response, name: string, limit: number): Response {
  const { statusCode, headers } = response;
  const body = response.body as Readable;
  const strange = strangeness(statusCode, headers);
  if (strange) {
    // Whatever it says, and however long: nobody reads it.
    body.on("error", () => {}).destroy();
    throw new TransportError(`NotAws.${statusCode}`, `${name} ${strange}`, BETWEEN);
  }
  response.body = limited(body, name, limit, statusCode === 200);
  return response;
}

function strangeness(status: number, headers: Record<string, string>): string | undefined {
  const code = `(status code: ${status})`;
  if (status >= 300 && status < 400) {
    const to = headers.location ? ` to ${headers.location}` : "";
    return `redirects requests${to} ${code}, as no AWS service does`;
  }
  if (status === 407) return `asks for a proxy's user and password ${code}, as no AWS service does`;
  if (!WEB_PAGE.test(headers["content-type"] ?? "")) return undefined;
  return `answers with a web page ${code}, not as an AWS service does`;
}

function limited(body: Readable, name: string, limit: number, hasContent: boolean): Readable {
  let size = 0;
  const content = new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      size += chunk.length;
      const reason = `the answer of ${name} has more than ${LARGEST} bytes`;
      done(size > LARGEST ? new TransportError("TooLarge", reason, BETWEEN) : null, chunk);
    },
    flush(done) {
      const reason = `the answer of ${name} is empty`;
      done(size === 0 && hasContent ? new TransportError("Empty", reason, BETWEEN) : null);
    },
  });
  const timer = setTimeout(() => {
    const reason = `the answer of ${name} has not ended within ${limit / 1000} s`;
    content.destroy(new TransportError("ETIMEDOUT", reason));
  }, limit);
  // Errors reach whoever reads the content; one that comes before ends no process.
  content.on("error", () => {});
  pipeline(body, content, () => clearTimeout(timer));
  return content;
}
