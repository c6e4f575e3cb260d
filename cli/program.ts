/**
 * The sub-commands and the help of all, on commander. Only loaded when one of them is asked for.
 *
 * @module
 */
import { Argument, Command, CommanderError, Option } from "commander";
import { UsageError } from "../agent/errors.ts";
import { ETCD_FLAGS, INTERFACE_FLAGS } from "./agent_options.ts";
import { completions, SHELL_NAMES } from "./completions.ts";
import { envName, FLAG_NAMES, type FlagName, flagOf, isFlagName } from "./flags.ts";
import { configureLog } from "./log.ts";
import { nearest } from "../subnet/nearest.ts";
import { type GivenFlags, resolveFlags, type Settings } from "./parse.ts";

/** Columns of `--help`. */
const WIDTH = 100;

/** Flags of the commands that talk to the store. */
const STORE_FLAGS = [...ETCD_FLAGS, "v"] as const satisfies FlagName[];

/** Flags by which a node is told from the others. */
const NODE_FLAGS = ["public-ip", "public-ipv6", "subnet-file"] as const satisfies FlagName[];

/** Returns the exit status. */
type Action = (command: Command) => Promise<number>;

/**
 * The tree of commands, its root being the agent.
 *
 * @param done takes the exit status of the command that ran
 */
export function buildProgram(done: (status: number) => void = () => {}): Command {
  const program = new Command("flanneld")
    .usage("[flags]\n       flanneld COMMAND [flags]")
    .description(
      "Leases this node a subnet of the overlay network and carries packets to the others.",
    )
    .helpOption("-h, --help", "Print this help and exit.")
    .helpCommand(false)
    // Otherwise the root would take a sub-command's flags of the same name.
    .enablePositionalOptions()
    .configureHelp({ helpWidth: WIDTH, sortOptions: false })
    .configureOutput({ getOutHelpWidth: () => WIDTH, writeErr: () => {} })
    .exitOverride();
  program.addHelpText(
    "after",
    "\nFlags may be written with one dash or two, values after '=' or as the next argument;\n" +
      "booleans take theirs after '=' only. A flag wins over its environment variable.",
  );
  addFlags(program, FLAG_NAMES);
  const run = (action: Action) =>
    async function (this: Command) {
      done(await action(this));
    };

  const config = program.command("config").description("Read, write or check the network config.");
  addFlags(
    config.command("get").description("Print the network config as it is stored."),
    STORE_FLAGS,
  ).action(run(async (command) => (await import("./config.ts")).get(settingsOf(command))));
  addFlags(
    config.command("set").description("Check a network config and write it to etcd.")
      .argument("[json]", "the config; - or nothing reads standard input")
      .option("--file <file>", "Read the config from a file.")
      .option("--force", "Store keys that flannel does not know, too."),
    STORE_FLAGS,
  ).action(run(async (command) => {
    const { file, force } = command.opts();
    const { set } = await import("./config.ts");
    return await set(settingsOf(command), command.args[0], { file, force: force === true });
  }));
  addFlags(
    config.command("validate").description(
      "Check a network config and print it with its defaults; the stored one where none is given.",
    )
      .argument("[json]", "the config; - reads standard input")
      .option("--file <file>", "Read the config from a file."),
    STORE_FLAGS,
  ).action(run(async (command) =>
    (await import("./config.ts")).validate(
      settingsOf(command),
      command.args[0],
      command.opts().file,
    )
  ));

  addFlags(
    program.command("leases").description("List the leases in etcd.")
      .option("--json", "Print JSON."),
    [...STORE_FLAGS, ...NODE_FLAGS],
  ).action(
    run(async (command) =>
      (await import("./leases.ts")).leases(settingsOf(command), command.opts().json === true)
    ),
  );

  program.command("peers")
    .description(
      "List the other nodes as the agent that runs on this one sees them, with what the udp backend " +
        "sent them, received and dropped.",
    )
    .option("--json", "Print JSON.")
    .action(
      run(async (command) => (await import("./peers.ts")).peers(command.opts().json === true)),
    );

  program.command("docker-opts")
    .description(
      "Write this node's subnet and MTU as options for the Docker daemon, in a file of environment " +
        "variables or in its daemon.json.",
    )
    .option("-f <file>", "Subnet file to read.", flagOf("subnet-file").default as string)
    .option("-d <file>", "File to write (default: /run/docker_opts.env).")
    .option("-i", "Write each option as a variable of its own: DOCKER_OPT_MTU.")
    .option("-c", "Write all options in one variable; with neither -i nor -c both.")
    .option("-m", "Leave out --ip-masq.")
    .option("-k <name>", "Name of the variable with all options.", "DOCKER_OPTS")
    .option(
      "--daemon-json <file>",
      "Set bip and mtu in this daemon.json and keep the rest. The file of variables is then only " +
        "written where -d names it.",
    )
    .action(run(async (command) => {
      const { f, d, i, c, m, k, daemonJson } = command.opts();
      const { dockerOpts } = await import("./docker_opts.ts");
      return dockerOpts({
        subnetFile: f,
        output: d ?? (daemonJson === undefined ? "/run/docker_opts.env" : undefined),
        individual: i === true || c !== true,
        combined: c === true || i !== true,
        ipMasq: m !== true,
        key: k,
        daemonJson,
      });
    }));

  addFlags(
    program.command("cleanup")
      .description("Remove the agent's devices, routes and traffic rules from this node.")
      .option("--lease", "Give this node's lease back, too, and remove the subnet file."),
    [...STORE_FLAGS, ...NODE_FLAGS],
  ).action(run(async (command) => {
    const { cleanup } = await import("./cleanup.ts");
    return await cleanup(settingsOf(command), command.opts().lease === true);
  }));

  program.command("cni")
    .description(
      "Be the CNI plugin, as under the name flannel: a container runtime calls it with CNI_COMMAND " +
        "set and the network config on standard input.",
    )
    .action(run(async () => {
      const { runCni } = await import("../cni/main.ts");
      return runCni((await import("./paths.ts")).libraryPath());
    }));

  const doctor = program.command("doctor").description(
    "Examine what a backend needs of this node and its surroundings; change nothing.",
  );
  addFlags(
    doctor.command("aws-vpc").description(
      "Examine permissions (by DryRun), source/dest check, route tables, security groups and MTU.",
    ),
    [...STORE_FLAGS, ...INTERFACE_FLAGS],
  ).action(
    run(async (command) => (await import("./doctor.ts")).doctorAwsVpc(settingsOf(command))),
  );

  program.command("completions").description("Print completions for a shell.")
    .addArgument(new Argument("<shell>").choices(SHELL_NAMES))
    .action(run((command) => Promise.resolve(completions(command.args[0], buildProgram()))));
  program.command("man").description("Print the manual page.")
    .action(run(async () => (await import("./man.ts")).man(buildProgram())));
  program.command("licences").description("Print the licences of what this program is made of.")
    .action(run(async () => (await import("./licences.ts")).licences()));
  return program;
}

/** Adds flags of the table to a command. */
function addFlags(command: Command, names: readonly FlagName[]): Command {
  for (const name of names) command.addOption(tableOption(name));
  return command;
}

function tableOption(name: FlagName): Option {
  const flag = flagOf(name);
  const long = name.length === 1 ? `-${name}, --${name}` : `--${name}`;
  const value = flag.type === "bool" ? "" : ` <${flag.value?.toLowerCase()}>`;
  const help = flag.missing ? `${flag.help} Not in this version.` : flag.help;
  const option = new Option(long + value, help).helpGroup(`${flag.group}:`);
  if (flag.type === "list") {
    option.argParser((text, former: string[] | undefined) => [...former ?? [], text]);
  }
  if (flag.default !== "" && flag.default !== false && flag.type !== "list") {
    option.default(flag.default);
  }
  return flag.noEnv ? option : option.env(envName(name));
}

/** The values of the table's flags, from a command's arguments and the environment. */
function settingsOf(command: Command): Settings {
  const given: GivenFlags = new Map();
  const names: FlagName[] = [];
  for (const option of command.options) {
    const name = option.name();
    if (!isFlagName(name)) continue;
    names.push(name);
    const attribute = option.attributeName();
    if (command.getOptionValueSource(attribute) === "cli") {
      const value: unknown = command.getOptionValue(attribute);
      given.set(name, Array.isArray(value) ? value.map(String) : [String(value)]);
    }
  }
  const settings = resolveFlags(given, (name) => Deno.env.get(name), names);
  // Without -v the commands speak through their output and errors alone.
  if (settings.values.v > 0) configureLog(settings.values.v);
  return settings;
}

/** Prints the agent's help. Returns the exit status. */
export function printHelp(): number {
  buildProgram().outputHelp();
  return 0;
}

/**
 * Runs a sub-command.
 *
 * @param args its name and what follows
 * @param leading flags before the name, which count as if they followed it
 * @returns the exit status
 * @throws {UsageError} for an unknown command, flag or argument
 */
export async function runCommand(
  args: readonly string[],
  leading: readonly string[],
): Promise<number> {
  let status = 0;
  const program = buildProgram((result) => status = result);
  const names = program.commands.map((command) => command.name());
  if (!names.includes(args[0])) throw unknownCommand(args[0], names);
  try {
    const words = nameLength(args, program);
    const all = [...args.slice(0, words), ...leading, ...args.slice(words)];
    await program.parseAsync(withDoubleDashes(all, program), { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw usageError(error, args[0], program);
  }
  return status;
}

/** How many of the arguments name the command: two for `config get`. */
function nameLength(args: readonly string[], parent: Command): number {
  const command = parent.commands.find((command) => command.name() === args[0]);
  return command ? 1 + nameLength(args.slice(1), command) : 0;
}

function unknownCommand(word: string, names: string[]): UsageError {
  const similar = nearest(word, names);
  return new UsageError(
    `unknown command ${JSON.stringify(word)}; ` +
      (similar ? `did you mean ${similar}?` : `commands are ${names.join(", ")}`),
  );
}

/** `-etcd-prefix` as `--etcd-prefix`: commander takes what follows one dash for short options. */
function withDoubleDashes(args: readonly string[], program: Command): string[] {
  const names = new Set<string>();
  const collect = (command: Command) => {
    for (const option of command.options) names.add(option.name());
    command.commands.forEach(collect);
  };
  collect(program);
  const end = args.indexOf("--");
  return args.map((arg, index) => {
    const name = /^-([^-=][^=]+)/.exec(arg)?.[1];
    return name !== undefined && names.has(name) && (end < 0 || index < end) ? `-${arg}` : arg;
  });
}

function usageError(error: CommanderError, name: string, program: Command): UsageError {
  if (error.code === "commander.help") {
    const commands = program.commands.find((command) => command.name() === name)?.commands ?? [];
    return new UsageError(`${name} needs one of: ${commands.map((c) => c.name()).join(", ")}`);
  }
  return new UsageError(
    error.message.replace(/^error: /, "").replace(/^unknown option/, "unknown flag")
      .replace(/\s*\(Did you mean (.*)\)$/s, "; did you mean $1"),
  );
}
