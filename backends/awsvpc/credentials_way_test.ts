import assert from "node:assert/strict";
import { chooseWay } from "./credentials_way.ts";

/** Files of a case, below a home folder. */
interface Files {
  config?: string;
  credentials?: string;
  token?: string;
}

const KEYS = { AWS_ACCESS_KEY_ID: "k", AWS_SECRET_ACCESS_KEY: "s" };
const STATIC = "aws_access_key_id = k\naws_secret_access_key = s\n";

/** The way of an environment, in which `HOME` stands for a folder with these files. */
async function way(env: Record<string, string>, files: Files = {}): Promise<string> {
  const home = await Deno.makeTempDir({ prefix: "flanneld-credentials-" });
  try {
    const { config, credentials, token } = files;
    for (const [name, text] of Object.entries({ config, credentials, token })) {
      if (text !== undefined) await Deno.writeTextFile(`${home}/${name}`, fill(text, home));
    }
    const all: Record<string, string> = {
      AWS_SHARED_CREDENTIALS_FILE: credentials === undefined ? "/dev/null" : "HOME/credentials",
      AWS_CONFIG_FILE: config === undefined ? "/dev/null" : "HOME/config",
      ...env,
    };
    const found = await chooseWay((name) => all[name] && fill(all[name], home));
    return found.source.replaceAll(home, "HOME");
  } catch (error) {
    assert.ok(error instanceof Error);
    return error.message.replaceAll(home, "HOME");
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

function fill(text: string, home: string): string {
  return text.replaceAll("HOME", home);
}

Deno.test("the first way that is configured, in the SDK's order", async () => {
  const web = { AWS_WEB_IDENTITY_TOKEN_FILE: "HOME/token", AWS_ROLE_ARN: "arn" };
  const container = { AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://127.0.0.1/x" };
  const files = { credentials: `[default]\n${STATIC}[other]\n${STATIC}`, token: "t" };
  const all = { AWS_PROFILE: "other", ...KEYS, ...web, ...container };
  assert.equal(await way(all, files), 'profile "other"');
  assert.equal(await way({ ...all, AWS_PROFILE: "" }, files), "AWS_ACCESS_KEY_ID");
  assert.equal(await way({ ...web, ...container }, files), 'profile "default"');
  // A default profile with a region alone is no way.
  const config = "[default]\nregion = eu-central-1\n";
  assert.equal(
    await way({ ...web, ...container }, { config, token: "t" }),
    "AWS_WEB_IDENTITY_TOKEN_FILE, for the role arn",
  );
  assert.equal(
    await way(container, { config }),
    "the container's credentials at http://127.0.0.1/x",
  );
  assert.equal(
    await way({ AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/v2", ...container }),
    "the container's credentials at /v2",
  );
  assert.equal(await way({}, { config }), "the instance's role");
  assert.equal(await way({ AWS_EC2_METADATA_DISABLED: "false" }), "the instance's role");
  assert.match(
    await way({ AWS_EC2_METADATA_DISABLED: "true" }),
    /^no AWS credentials \(AWS_ACCESS_KEY_ID is not set; .*DISABLED is true\): give the instance/,
  );
});

Deno.test("profiles that have what they need", async () => {
  const role = "role_arn = arn\n";
  const cases: [profile: string, more?: Record<string, string>, rest?: string][] = [
    [STATIC],
    [`${STATIC}aws_session_token = t\ncredential_process = x\nsource_profile = y\n`],
    [`${role}source_profile = p\n${STATIC}`],
    [`${role}source_profile = b\nduration_seconds = 900\n`, {}, `[profile b]\n${STATIC}`],
    [
      `${role}source_profile = b\n`,
      KEYS,
      `[profile b]\n${role}source_profile = c\n[profile c]\ncredential_source = Environment\n`,
    ],
    [`${role}credential_source = Environment\n`, KEYS],
    [`${role}credential_source = Ec2InstanceMetadata\n`],
    [
      `${role}credential_source = EcsContainer\n`,
      { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/x" },
    ],
    [`${role}web_identity_token_file = HOME/token\n`],
    [`${role}source_profile = b\n`, {}, `[profile b]\n${role}web_identity_token_file=HOME/token\n`],
  ];
  for (const [profile, more = {}, rest = ""] of cases) {
    const config = `# p\n[profile p]\n${profile}\n${rest}`;
    assert.match(
      await way({ AWS_PROFILE: "p", ...more }, { config, token: "t" }),
      /^profile "p"(, for the role arn)?$/,
      config,
    );
  }
  // Both files make one profile, in which the credentials' counts.
  const config = "[profile p]\naws_access_key_id = k\n";
  const credentials = "[p]\naws_secret_access_key = s\n";
  assert.equal(await way({ AWS_PROFILE: "p" }, { config, credentials }), 'profile "p"');
});

Deno.test("an incomplete environment is refused, never passed over", async () => {
  const cases: [env: Record<string, string>, reason: RegExp][] = [
    [
      { AWS_ACCESS_KEY_ID: "k" },
      /^AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set both/,
    ],
    [{ AWS_SECRET_ACCESS_KEY: "s" }, /^AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID: /],
    [{ AWS_SESSION_TOKEN: "t" }, /^AWS_SESSION_TOKEN is set without AWS_ACCESS_KEY_ID and /],
    [{ ...KEYS, AWS_ACCESS_KEY_ID: "k\n" }, /^AWS_ACCESS_KEY_ID has a space, a line break or/],
    [{ ...KEYS, AWS_SESSION_TOKEN: "a\r\nb" }, /^AWS_SESSION_TOKEN has a space, a line break or/],
    [{ AWS_DEFAULT_PROFILE: "x" }, /^AWS_DEFAULT_PROFILE is an old name, .*: set AWS_PROFILE$/],
    [{ AWS_ACCESS_KEY: "k", AWS_SECRET_KEY: "s" }, /are old names: set AWS_ACCESS_KEY_ID and /],
    [{ ...KEYS, AWS_CREDENTIAL_EXPIRATION: "soon" }, /_EXPIRATION is "soon", which is not a time$/],
    [{ ...KEYS, AWS_CREDENTIAL_EXPIRATION: "2020-01-01T00:00:00Z" }, /expired at 2020-.*: restart/],
    [{ AWS_ROLE_ARN: "arn" }, /^AWS_ROLE_ARN is set without AWS_WEB_IDENTITY_TOKEN_FILE: set both/],
    [{ AWS_WEB_IDENTITY_TOKEN_FILE: "HOME/token" }, /_TOKEN_FILE is set without AWS_ROLE_ARN: /],
    [
      { AWS_WEB_IDENTITY_TOKEN_FILE: "HOME/none", AWS_ROLE_ARN: "arn" },
      /^AWS_WEB_IDENTITY_TOKEN_FILE names HOME\/none, which does not exist: create it, or unset AWS_/,
    ],
    [
      { AWS_WEB_IDENTITY_TOKEN_FILE: "/dev/null", AWS_ROLE_ARN: "arn" },
      /^AWS_WEB_IDENTITY_TOKEN_FILE names \/dev\/null, which is empty$/,
    ],
    [
      { AWS_CONTAINER_CREDENTIALS_FULL_URI: "https://127.0.0.1/" },
      /^AWS_CONTAINER_CREDENTIALS_FULL_URI is "https:\/\/127\.0\.0\.1\/": flanneld accepts only http/,
    ],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://10.0.0.1/" }, /accepts only http/],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: "x" }, /FULL_URI is "x": flanneld accepts only http/],
    [
      {
        AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: "/x",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: "HOME/none",
      },
      /^AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names HOME\/none, which does not exist: /,
    ],
  ];
  for (const [env, reason] of cases) {
    const refusal = await way(env);
    assert.match(refusal, /^AWS credentials: [^\n]*$/);
    assert.match(refusal.slice("AWS credentials: ".length), reason);
  }
});

Deno.test("a profile without what it needs, or with what is not supported, is refused by name", async () => {
  const role = "role_arn = arn\n";
  const cases: [profile: string, reason: RegExp][] = [
    [
      "region = x\n",
      /^has no credentials: add some, or unset AWS_PROFILE to use the instance's role$/,
    ],
    ["aws_access_key_id = k\n", /^has aws_access_key_id, but no aws_secret_access_key: add it$/],
    [
      "aws_secret_access_key = k\n",
      /^has aws_secret_access_key, but no aws_access_key_id: add it$/,
    ],
    ["aws_session_token = k\n", /^has aws_session_token, but no aws_access_key_id: add it$/],
    [
      role,
      /^has role_arn alone: add source_profile, credential_source or web_identity_token_file$/,
    ],
    ["source_profile = b\n", /^has source_profile or credential_source, but no role_arn: add it$/],
    [
      "credential_source = Environment\n",
      /^has source_profile or credential_source, but no role_arn/,
    ],
    [`${role}source_profile = b\ncredential_source = Environment\n`, /^has both .*: remove one/],
    [`${role}source_profile = p\n`, /^leads back to profile "p": correct its source_profile$/],
    [
      `${role}credential_source = environment\n`,
      /^has credential_source environment: it must be E/,
    ],
    [
      `${role}credential_source = Environment\n`,
      /^has credential_source Environment, but .*: set /,
    ],
    [
      `${role}credential_source = EcsContainer\n`,
      /there are no credentials: AWS_CONTAINER_.* not set$/,
    ],
    [
      `${role}source_profile = b\nduration_seconds = 1h\n`,
      /^has duration_seconds "1h", which is no/,
    ],
    [
      `${role}source_profile = b\nmfa_serial = x\n`,
      /^has mfa_serial, which is not supported .*: use /,
    ],
    [
      "web_identity_token_file = HOME/t\n",
      /^has web_identity_token_file, but no role_arn: add it$/,
    ],
    [
      "credential_process = /bin/x\n",
      /^has credential_process, which is not supported .*: use role_/,
    ],
    [
      "sso_session = s\nsso_account_id = 1\n",
      /^has sso_session, which is not supported .*: use role/,
    ],
    ["sso_start_url = https://x\n", /^has sso_start_url, which is not supported .*: use role_arn/],
    [
      "login_session = x\n",
      /^has login_session, which is not supported \(it needs .*\): use role_/,
    ],
  ];
  for (const [profile, reason] of cases) {
    for (const name of ["p", "default"]) {
      // The default one is taken also where nobody names it, unless it has nothing to do with this.
      const config = `[${name === "p" ? "profile p" : name}]\n${
        profile.replace("= p\n", `= ${name}\n`)
      }`;
      const refusal = await way(name === "p" ? { AWS_PROFILE: name } : {}, { config });
      if (name === "default" && profile.startsWith("region")) {
        assert.equal(refusal, "the instance's role");
        continue;
      }
      const start = `AWS credentials: profile "${name}" `;
      assert.equal(refusal.slice(0, start.length), start, refusal);
      assert.match(refusal.slice(start.length).replaceAll(`"${name}"`, '"p"'), reason);
    }
  }
  assert.match(
    await way({ AWS_PROFILE: "p" }, {
      config: `[profile p]\n${role}source_profile = b\n[profile b]\nsso_session = s\n`,
    }),
    /^AWS credentials: profile "b" has sso_session, which is not supported/,
  );
  assert.match(
    await way({ AWS_PROFILE: "p" }, {
      config: `[profile p]\n${role}web_identity_token_file = HOME/no\n`,
    }),
    /: web_identity_token_file of profile "p" names HOME\/no, which does not exist: create it, or unset/,
  );
});

Deno.test("a profile that is not there is refused", async () => {
  for (const name of ["p", "constructor", "__proto__"]) {
    assert.equal(
      await way({ AWS_PROFILE: name }, { config: `[${name}]\n${STATIC}`, credentials: "" }),
      `AWS credentials: AWS_PROFILE names profile "${name}", which does not exist: add it as ` +
        `[${name}] to HOME/credentials or as [profile ${name}] to HOME/config, or correct AWS_PROFILE`,
    );
  }
  assert.match(
    await way({ AWS_PROFILE: "p" }, { credentials: "[p]\nrole_arn = arn\nsource_profile = b\n" }),
    /^AWS credentials: source_profile names profile "b", which does not exist: add it as \[b\]/,
  );
});

Deno.test("files that cannot be read as they are meant are refused", async () => {
  const cases: [files: Files, reason: RegExp][] = [
    [
      { credentials: "aws_access_key_id = k\n" },
      /credentials, line 1, is neither a \[section\] nor/,
    ],
    [{ config: "[default\nregion = x\n" }, /^HOME\/config, line 1, is neither/],
    [{ config: "\n[default]\r\nregion x\r\n" }, /^HOME\/config, line 3, is neither/],
    [{ config: "[default]\n= x\n" }, /^HOME\/config, line 2, is neither/],
    [
      { credentials: "[default]\nAWS_ACCESS_KEY_ID = k\n" },
      /^HOME\/credentials, line 2: write aws_access_key_id in place of "AWS_ACCESS_KEY_ID"$/,
    ],
    [
      { credentials: "[default]\nexport AWS_ACCESS_KEY_ID=k\n" },
      /line 2: write aws_access_key_id in place of "export AWS_ACCESS_KEY_ID"$/,
    ],
    [
      { credentials: "[default]\naws_access_key_id =\n" },
      /line 2: aws_access_key_id has no value$/,
    ],
    [
      { credentials: `[profile default]\n${STATIC}` },
      /line 1: in this file the section is \[default\]/,
    ],
    [{ config: "[default]\nRole_Arn = x\n" }, /^HOME\/config, line 2: write role_arn in place of/],
    [{ credentials: "\0\0" }, /^HOME\/credentials, line 1, is neither/],
    [{ credentials: `[default]\n${"#".repeat(1_000_001)}` }, /which? ?has \d+ bytes|has \d+ bytes/],
  ];
  for (const [files, reason] of cases) {
    const refusal = await way({}, files);
    assert.match(refusal, /^AWS credentials: /);
    assert.match(refusal.slice("AWS credentials: ".length), reason);
  }
  const fine =
    "; c\n# c\n\n[default] # c\nregion = x ; c\ns3 =\n  x = y\n[services a]\nec2 =\n  endpoint_url = x\n";
  assert.equal(await way({}, { config: fine }), "the instance's role");
  for (const variable of ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"]) {
    assert.equal(
      await way({ [variable]: "HOME/none" }),
      `AWS credentials: ${variable} names HOME/none, which does not exist: create it, or unset ${variable}`,
    );
    assert.match(
      await way({ [variable]: "HOME" }),
      new RegExp(`^AWS credentials: ${variable} names HOME, which is not a file$`),
    );
    // Keys in the environment need no file.
    assert.equal(await way({ [variable]: "HOME/none", ...KEYS }), "AWS_ACCESS_KEY_ID");
  }
});
