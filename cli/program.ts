/**
 * The sub-commands and the help of all, on commander. Only loaded when one of them is asked for.
 *
 * @module
 */
import { Argument, Command, CommanderError, Help, Option } from "commander";
import { UsageError } from "../agent/errors.ts";
import { ETCD_FLAGS, INTERFACE_FLAGS } from "./agent_options.ts";
import { VERSION } from "../agent/version.ts";
import { completions, SHELL_NAMES } from "./completions/mod.ts";
import { envName, FLAG_NAMES, type FlagName, flagOf, isFlagName } from "./flags.ts";
import { configureLog } from "./log.ts";
import { nameOf, unknownCommand, usageError } from "./usage_errors.ts";
import {
  type GivenFlags,
  parseBoolean,
  resolveFlags,
  type Settings,
  strayBoolean,
} from "./parse.ts";

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
      "Leases a subnet of the overlay network for this node and forwards packets to the other nodes.",
    )
    .helpOption("-h, --help", "Print this help and exit.")
    .helpCommand(false)
    // Otherwise the root would take a sub-command's flags of the same name.
    .enablePositionalOptions()
    .configureHelp({ helpWidth: WIDTH, sortOptions: false, groupItems: ownOptionsFirst })
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
      .argument("[json]", "the config; without it, or with -, it is read from standard input")
      .option("--file <file>", "Read the config from a file.")
      .option("--force", "Store the config even if it has keys that flannel does not know."),
    STORE_FLAGS,
  ).action(run(async (command) => {
    const { file, force } = command.opts();
    const { set } = await import("./config.ts");
    return await set(settingsOf(command), command.args[0], { file, force: force === true });
  }));
  addFlags(
    config.command("validate").description(
      "Check a network config and print it with its defaults; without an argument, the stored one.",
    )
      .argument("[json]", "the config; with -, it is read from standard input")
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

  addFlags(
    program.command("peers").description(
      "List the other nodes as the agent on this node sees them, with the packets that the udp " +
        "backend sent, received and dropped. Only root and the agent's user may run this.",
    )
      .option("--json", "Print JSON."),
    ["subnet-file", "v"],
  ).action(
    run(async (command) =>
      (await import("./peers.ts")).peers(settingsOf(command), command.opts().json === true)
    ),
  );

  program.command("docker-opts")
    .description(
      "Write this node's subnet and MTU as options for the Docker daemon, to a file of environment " +
        "variables or to its daemon.json.",
    )
    .option("-f <file>", "Subnet file to read.", flagOf("subnet-file").default as string)
    .option("-d <file>", "File to write (default: /run/docker_opts.env).")
    .option("-i", "Write each option as its own variable, such as DOCKER_OPT_MTU.")
    .option("-c", "Write all options as one variable; with neither -i nor -c, both.")
    .option("-m", "Omit --ip-masq, and leave ip-masq in daemon.json as it is.")
    .option("-k <name>", "Name of the variable with all options.", "DOCKER_OPTS")
    .option(
      "--daemon-json <file>",
      "Set bip and mtu in this daemon.json, and ip-masq if the agent masquerades, and keep the " +
        "rest. The file of variables is then only written if -d names it.",
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
      .option("--lease", "Also release this node's lease and remove the subnet file."),
    [...STORE_FLAGS, ...NODE_FLAGS],
  ).action(run(async (command) => {
    const { cleanup } = await import("./cleanup.ts");
    return await cleanup(settingsOf(command), command.opts().lease === true);
  }));

  program.command("cni")
    .description(
      "Run as the CNI plugin (same as invoking the binary as flannel): a container runtime sets " +
        "CNI_COMMAND and passes the network config on standard input.",
    )
    .action(run(async () => {
      const { runCni } = await import("../cni/main.ts");
      return runCni((await import("./paths.ts")).libraryPath());
    }));

  const doctor = addFlags(
    program.command("doctor").description(
      "Check this node, etcd and the path to the other nodes for the configured backend, without " +
        "changing anything. Accepts the agent's flags. Exits with status 1 if a check fails.",
    )
      .option("--json", "Print JSON."),
    FLAG_NAMES.filter((name) => name !== "version"),
  ).action(
    run(async (command) =>
      (await import("./doctor.ts")).doctor(settingsOf(command), command.opts().json === true)
    ),
  );
  addFlags(
    doctor.command("aws-vpc").description(
      "Check only what aws-vpc needs from AWS: permissions (by DryRun), source/dest check, route " +
        "tables, security groups and MTU.",
    )
      .option("--json", "Print JSON."),
    [...STORE_FLAGS, ...INTERFACE_FLAGS],
  ).action(
    run(async (command) =>
      (await import("./doctor.ts")).doctorAwsVpc(settingsOf(command), command.opts().json === true)
    ),
  );

  program.command("help").description("Print the help of a command.")
    .argument("[command...]", "the command, such as config set")
    .action(run((command) => Promise.resolve(printHelp(command.args))));
  program.command("completions").description("Print shell completions for bash, zsh or fish.")
    .addArgument(new Argument("<shell>", "Shell to print them for.").choices(SHELL_NAMES))
    .addHelpText(
      "after",
      "\nIn bash and zsh: source <(flanneld completions bash)\n" +
        "In fish:         flanneld completions fish | source",
    )
    .action(run((command) => Promise.resolve(completions(command.args[0], buildProgram()))));
  program.command("man").description("Print the manual page.")
    .action(run(async () => (await import("./man.ts")).man(buildProgram())));
  program.command("licences").description("Print the licences of the components of this program.")
    .action(run(async () => (await import("./licences.ts")).licences()));
  program.command("version").description("Print the version, as --version does.")
    .action(run(() => {
      console.log(VERSION);
      return Promise.resolve(0);
    }));
  // `flanneld help config` explains one; theirs would be another.
  for (const command of program.commands) command.helpCommand(false);
  return program;
}

/** Groups options as commander does, but those without a group first, also where only -h has none. */
function ownOptionsFirst<T extends Command | Option>(
  this: Help,
  all: T[],
  visible: T[],
  groupOf: (item: T) => string,
): Map<string, T[]> {
  const group = (item: Command | Option) => groupOf(item as T);
  const groups = Help.prototype.groupItems.call(this, all, visible, group) as Map<string, T[]>;
  const own = groups.get("Options:");
  return own === undefined ? groups : new Map([["Options:", own], ...groups]);
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

/**
 * Prints the help of the command that these words name, of the agent for none. Returns the exit
 * status.
 *
 * @throws {UsageError} for words that name no command
 */
export function printHelp(words: readonly string[] = []): number {
  let command = buildProgram();
  for (const word of words) {
    const next = command.commands.find((one) => one.name() === word);
    if (!next) throw unknownCommand(word, command);
    command = next;
  }
  command.outputHelp();
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
  if (!names.includes(args[0])) {
    refuseStrayBoolean([...leading.slice(-1), args[0]], program);
    throw unknownCommand(args[0], program);
  }
  try {
    refuseStrayBoolean(args, program);
    const command = commandOf(args, program);
    const words = nameOf(command).split(" ").length;
    // `config help set` is `help config set`.
    if (command.commands.length > 0 && args[words] === "help") {
      return printHelp([...args.slice(0, words), ...args.slice(words + 1)]);
    }
    const all = [...args.slice(0, words), ...leading, ...args.slice(words)];
    await program.parseAsync(normalize(all, program), { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw usageError(error, commandOf(args, program));
  }
  return status;
}

/** @throws {UsageError} for `--flag true`, which would count as another argument */
function refuseStrayBoolean(args: readonly string[], program: Command): void {
  const booleans = new Set<string>();
  for (const command of allCommands(program)) {
    for (const option of command.options) if (option.isBoolean()) booleans.add(option.name());
  }
  for (const [index, arg] of args.entries()) {
    const name = /^--?([^=-][^=]*)$/.exec(arg)?.[1];
    if (name === undefined || !booleans.has(name) || index + 1 >= args.length) continue;
    const reason = strayBoolean(arg, args[index + 1]);
    if (reason !== undefined) throw new UsageError(reason);
  }
}

function allCommands(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allCommands)];
}

/**
 * The arguments as commander takes them: `-etcd-prefix` as `--etcd-prefix`, where it would see short
 * options, and booleans without a value.
 *
 * @throws {UsageError} for a boolean's value that is none
 */
function normalize(args: readonly string[], program: Command): string[] {
  const options = allCommands(program).flatMap(({ options }) => options);
  const end = args.indexOf("--");
  return args.flatMap((arg, index) => {
    const [, dashes, name, value] = /^(--?)([^=-][^=]*)(?:=(.*))?$/s.exec(arg) ?? [];
    const option = options.find((option) => option.name() === name);
    if (option === undefined || (end >= 0 && index > end)) return [arg];
    if (value !== undefined && option.isBoolean()) {
      const on = parseBoolean(value);
      if (on === undefined) throw new UsageError(`${arg}: use --${name} or --${name}=false`);
      return on ? [`--${name}`] : [];
    }
    return [dashes === "-" && name.length > 1 ? `-${arg}` : arg];
  });
}

/** The command that the arguments' first words name, as far as they name one. */
function commandOf(args: readonly string[], program: Command): Command {
  let command = program;
  for (const word of args) {
    const next = command.commands.find((one) => one.name() === word);
    if (!next) break;
    command = next;
  }
  return command;
}
