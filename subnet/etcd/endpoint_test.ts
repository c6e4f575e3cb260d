import assert from "node:assert/strict";
import { parseEndpoint, splitEndpoints } from "./endpoint.ts";

Deno.test("an endpoint gets the scheme and the port that it lacks", () => {
  const cases: [string, string][] = [
    ["172.31.28.198:2379", "http://172.31.28.198:2379"],
    ["172.31.28.198", "http://172.31.28.198:2379"],
    ["nodea", "http://nodea:2379"],
    ["Node-A.example.org:4001", "http://node-a.example.org:4001"],
    ["localhost:2379", "http://localhost:2379"],
    ["HTTP://nodea:2379", "http://nodea:2379"],
    ["HTTPS://nodea", "https://nodea:2379"],
    ["http://nodea:80", "http://nodea:80"],
    ["https://nodea:443", "https://nodea:443"],
    ["http://nodea:02379", "http://nodea:2379"],
    ["http://[fd00::1]", "http://[fd00::1]:2379"],
    ["https://[fd00::1]:443", "https://[fd00::1]:443"],
    ["[fd00::1]:2379", "http://[fd00::1]:2379"],
    ["fd00::1", "http://[fd00::1]:2379"],
    ["http://fd00::1", "http://[fd00::1]:2379"],
  ];
  for (const [entry, expected] of cases) assert.equal(parseEndpoint(entry, false), expected, entry);
  // Go's client takes TLS where it has certificates.
  assert.equal(parseEndpoint("nodea:2379", true), "https://nodea:2379");
  assert.equal(parseEndpoint("http://nodea:2379", true), "http://nodea:2379");
});

Deno.test("what is no endpoint is refused with the reason", () => {
  const cases: [string, RegExp][] = [
    ["ftp://nodea", /^"ftp:\/\/nodea" is not an http:\/\/ or https:\/\/ URL$/],
    ["http:/nodea", /is not an http/],
    ["http://http://nodea", /is not an http/],
    ["http://", /is not an http/],
    ["x://", /is not an http/],
    ["http://a b", /is not an http/],
    ["nodea:99999", /is not an http/],
    ["nodea:etcd", /is not an http/],
    ["nodea:0", /no port/],
    ["http://nodea:2379/v3", /has more than a host and a port/],
    ["nodea/v3", /has more than a host and a port/],
    ["http://nodea?x=1", /has more than a host and a port/],
    ["http://root:secret@nodea", /^user and password belong/],
    ["root:secret@nodea:2379", /^user and password belong/],
    ["ftp://root:secret@nodea:2379", /^"ftp:\/\/\*\*\*@nodea:2379" is not/],
  ];
  for (const [entry, message] of cases) {
    assert.throws(() => parseEndpoint(entry, false), ({ message: text }: Error) => {
      assert.match(text, message, entry);
      assert.doesNotMatch(text, /secret/);
      return true;
    });
  }
});

Deno.test("lists may have blanks, slashes, commas too many and repeated entries", () => {
  assert.deepEqual(splitEndpoints(" http://a:1/, ,b ,http://a:1,"), ["http://a:1", "b"]);
  assert.deepEqual(splitEndpoints(", ,"), []);
});
