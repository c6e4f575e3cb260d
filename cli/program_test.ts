import assert from "node:assert/strict";
import { UsageError } from "../agent/errors.ts";
import { ENTRIES } from "./permissions.ts";
import { buildProgram, runCommand } from "./program.ts";

Deno.test("mistakes in words are told in the program's words", async () => {
  const cases: [string[], string][] = [
    [["completions", "tcsh"], 'unknown shell "tcsh"; use one of: bash, zsh, fish'],
    [["completions", "bsh"], 'unknown shell "bsh"; did you mean bash?'],
    [["completions"], "completions needs one of: bash, zsh, fish"],
    [
      ["completions", "bash", "zsh"],
      'unexpected argument "zsh": completions takes SHELL alone',
    ],
    [["doctor", "vxlan"], 'unknown command "doctor vxlan"; commands are doctor aws-vpc'],
    [["doctor", "aws-vcp"], 'unknown command "doctor aws-vcp"; did you mean doctor aws-vpc?'],
    [["config"], "config needs one of: get, set, validate"],
    [["config", "st"], 'unknown command "config st"; did you mean config set?'],
    [["config", "help", "st"], 'unknown command "config st"; did you mean config set?'],
    [
      ["help", "config", "qqqq"],
      'unknown command "config qqqq"; commands are config get, config set, config validate',
    ],
    [["config", "get", "x"], 'unexpected argument "x": config get takes no argument'],
    [["config", "set", "{}", "x"], 'unexpected argument "x": config set takes JSON alone'],
    [["config", "set", "--file"], "--file needs a value"],
    [["docker-opts", "-f"], "-f needs a value"],
    [["leases", "-etcd-prefix"], "--etcd-prefix needs a value"],
    [["leases", "-v"], "--v needs a value"],
    [["leases", "--jsn"], "unknown flag --jsn; did you mean --json?"],
    [["leases", "--qqqqqq=secret"], "unknown flag --qqqqqq; see flanneld help leases"],
    [["version", "x"], 'unexpected argument "x": version takes no argument'],
  ];
  for (const [args, message] of cases) {
    await assert.rejects(() => runCommand(args, []), new UsageError(message));
  }
});

Deno.test("help: options come first, shells are named, and no command has a help of its own", () => {
  const program = buildProgram();
  const all = (command: typeof program): typeof program[] => [
    command,
    ...command.commands.flatMap(all),
  ];
  for (const command of all(program)) {
    const help = command.helpInformation();
    const headings = help.match(/^[A-Z].*:$/gm)!.filter((line) =>
      !/^(Arguments|Commands):/.test(line)
    );
    assert.equal(headings[0], "Options:", command.name());
    assert.doesNotMatch(help, /display help for command/, command.name());
  }
  const completions = program.commands.find((command) => command.name() === "completions")!;
  assert.match(completions.helpInformation(), /shell .*"bash", "zsh", "fish"/);
});

Deno.test("each command has an entry among the permissions", () => {
  for (const command of buildProgram().commands) {
    const name = command.name();
    const known = Object.keys(ENTRIES).some((entry) => entry.split(",").includes(name));
    assert.ok(known, name);
  }
});
