/**
 * What answers at an endpoint, for the message when gRPC says no more than that the connection broke:
 * TLS where plain HTTP was asked for, the other way round, or a server that refuses the certificate.
 *
 * @module
 */
import type { EtcdAccess } from "./channel.ts";

/** Milliseconds for connecting and an answer. */
const LIMIT = 1_500;

/** Characters of an answer that are read: etcd's has some 200. */
const LONGEST_ANSWER = 4_096;

/** What an endpoint turned out to be; `text` is the reason of a TLS failure. */
export type Probe =
  | { speaks: "http" | "tls" | "another protocol" }
  | { speaks: "unknown"; text: string };

/** Connects to an endpoint once more, by the protocol that its URL does not name first. */
export async function probe(endpoint: string, access: EtcdAccess): Promise<Probe> {
  const { protocol, hostname, port } = new URL(endpoint);
  // A URL has no port where it is the scheme's own.
  const address = {
    hostname: hostname.replace(/^\[|\]$/g, ""),
    port: Number(port || (protocol === "https:" ? 443 : 80)),
  };
  if (protocol === "http:") {
    if (await speaksTls(address)) return { speaks: "tls" };
    return isOther(await answerOf(address, /etcdserver/))
      ? { speaks: "another protocol" }
      : UNKNOWN;
  }
  const reason = await tlsFault(address, access);
  if (/alert/.test(reason)) return { speaks: "unknown", text: reason };
  const answer = await answerOf(address, /^.{5}/s);
  if (answer.startsWith("HTTP/")) return { speaks: "http" };
  // A TLS server answers what is not TLS by an alert, which is no text.
  return /^[ -~]{3}/.test(answer)
    ? { speaks: "another protocol" }
    : { speaks: "unknown", text: reason };
}

const UNKNOWN: Probe = { speaks: "unknown", text: "" };

type Address = { hostname: string; port: number };

/** Whether a TLS server answers: with its certificate or with an alert. */
async function speaksTls(address: Address): Promise<boolean> {
  try {
    using connection = await limited(Deno.connectTls({ ...address, alpnProtocols: ["h2"] }));
    await limited(connection.handshake(), () => connection.close());
    return true;
  } catch (error) {
    return error instanceof Error && /certificate|alert/i.test(error.message);
  }
}

/** Why a TLS session with the flags' certificates breaks; empty where it does not. */
async function tlsFault(address: Address, { cafile, certfile, keyfile }: EtcdAccess) {
  try {
    const caCerts = cafile ? [Deno.readTextFileSync(cafile)] : [];
    const pair = certfile && keyfile
      ? { cert: Deno.readTextFileSync(certfile), key: Deno.readTextFileSync(keyfile) }
      : {};
    const options = { ...address, alpnProtocols: ["h2"], caCerts, ...pair };
    using connection = await limited(Deno.connectTls(options));
    await limited(connection.handshake(), () => connection.close());
    // With TLS 1.3 a server judges the client's certificate after the handshake.
    await limited(connection.read(new Uint8Array(1)), () => connection.close());
    return "";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Whether this is an answer, and none of etcd's, which tells the version of its server. */
function isOther(answer: string): boolean {
  return answer !== "" && !answer.includes("etcdserver");
}

/**
 * What a server answers a request for etcd's version that is not encrypted, up to what tells `enough`;
 * empty where nothing.
 */
async function answerOf(address: Address, enough: RegExp): Promise<string> {
  let text = "";
  try {
    using connection = await limited(Deno.connect(address));
    const request = "GET /version HTTP/1.1\r\nHost: etcd\r\nConnection: close\r\n\r\n";
    await connection.write(new TextEncoder().encode(request));
    const bytes = new Uint8Array(1024);
    while (text.length < LONGEST_ANSWER && !enough.test(text)) {
      const count = await limited(connection.read(bytes), () => connection.close());
      if (count === null) break;
      text += new TextDecoder("latin1").decode(bytes.subarray(0, count));
    }
  } catch {
    // What came until then tells enough.
  }
  return text;
}

/** What a promise gives within {@linkcode LIMIT}; `stop` ends what it waits for. */
async function limited<T>(work: Promise<T>, stop: () => void = () => {}): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    reject(new Error("no answer"));
    // What arrives too late is not waited for, but it must not stay open.
    work.then((late) => (late as Partial<Disposable>)?.[Symbol.dispose]?.()).catch(() => {});
    stop();
  }, LIMIT);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
