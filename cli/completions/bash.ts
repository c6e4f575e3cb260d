/**
 * Completions for bash 4.4 or newer. Needs no other package, such as bash-completion.
 *
 * @module
 */
import type { Command, Option } from "commander";
import { forms, places, type Value, valueOf } from "./places.ts";

/** How bash finds the words for a kind of value. */
const OFFERS: Record<Exclude<Value["kind"], "boolean" | "choice" | "text">, string> = {
  file: '_flanneld_files "$cur"',
  interface: '_flanneld_offer "$(cd /sys/class/net 2>/dev/null && printf "%s " *)" "$cur"',
};

/** The script. */
export function bash(program: Command): string {
  const all = places(program);
  const options = all.flatMap((place) => place.options);
  const offered = all.map(({ words, commands, options, choices }) => {
    const names = commands.map((command) => command.name());
    return `    "${words}") words=" ${
      [...names, ...choices, ...options.flatMap(forms)].join(" ")
    } --help" ;;`;
  });
  const steps = all.slice(1).map(({ words }) => {
    const at = words.lastIndexOf(" ");
    return `      "${words.slice(0, Math.max(0, at))} ${words.slice(at + 1)}") place="${words}" ;;`;
  });
  return `_flanneld_offer() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2"); }
_flanneld_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$1")
}
# Offers values of the flag $1; fails for what is not a flag with a value.
_flanneld_value() {
  local name=\${1#-} cur=$2
  case \${name#-} in
${valueCases(options).join("\n")}
    *) return 1 ;;
  esac
}
_flanneld() {
  local cur=\${COMP_WORDS[COMP_CWORD]} place="" words="" word previous="" index
  COMPREPLY=()
  # The words that are neither flags nor their values name the place.
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    case $word in
      --) return ;;
      -*)
        # Readline splits --flag=value at the equals sign.
        if [[ \${COMP_WORDS[index + 1]} == "=" ]]; then
          ((index += 2))
        elif [[ $word != *=* ]] && _flanneld_takes_value "$word"; then
          ((index += 1))
        fi
        continue ;;
    esac
    case "$place $word" in
${steps.join("\n")}
    esac
  done
  # cur is the value of the flag before it, or before the equals sign.
  previous=\${COMP_WORDS[COMP_CWORD - 1]}
  if [[ $cur == "=" ]]; then
    _flanneld_value "$previous" ""
    return
  elif [[ $previous == "=" ]]; then
    _flanneld_value "\${COMP_WORDS[COMP_CWORD - 2]}" "$cur"
    return
  elif [[ $cur == -*=* ]]; then
    _flanneld_value "\${cur%%=*}" "\${cur#*=}"
    COMPREPLY=("\${COMPREPLY[@]/#/\${cur%%=*}=}")
    return
  elif [[ $previous == -* ]] && _flanneld_takes_value "$previous"; then
    _flanneld_value "$previous" "$cur"
    return
  fi
  case $place in
${offered.join("\n")}
  esac
  # One dash serves as well as two.
  [[ $cur == -[!-]* ]] && words=\${words// --/ -}
  _flanneld_offer "$words" "$cur"
}
_flanneld_takes_value() {
  local name=\${1#-}
  case \${name#-} in
    ${namesOf(options.filter((option) => option.required))}) return 0 ;;
  esac
  return 1
}
complete -F _flanneld flanneld
`;
}

function valueCases(options: Option[]): string[] {
  const cases = new Map<string, Option[]>();
  for (const option of options) {
    const action = actionOf(valueOf(option));
    cases.set(action, [...cases.get(action) ?? [], option]);
  }
  return [...cases].map(([action, group]) => `    ${namesOf(group)}) ${action} ;;`);
}

function actionOf(value: Value): string {
  if (value.kind === "text") return ":";
  if ("words" in value) return `_flanneld_offer "${value.words.join(" ")}" "$cur"`;
  return OFFERS[value.kind];
}

/** Without dashes, as alternatives of a pattern. */
function namesOf(options: Option[]): string {
  const names = options.flatMap(forms).map((form) => form.replace(/^--?/, ""));
  return [...new Set(names)].join("|");
}
