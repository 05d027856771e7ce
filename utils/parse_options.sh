# shellcheck shell=bash
# To be sourced. As in Kaldi, "--some-name value" or "--some-name=value" sets the variable some_name, if the sourcing script
# has given it a default; an option that may be repeated has an array. "--set section.key=value" fills the array overrides.
# In a script with an array passed_on, all other options go there, for the command that the script runs. --help prints the
# comment at the top of the script. What is left are the script's arguments.

_usage_error() { echo "${0##*/}: $*" >&2; exit 2; }

overrides=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
    --) shift; break ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --*)
      [ $# -gt 1 ] || _usage_error "$1 needs a value"
      _name=${1#--}
      _name=${_name//-/_}
      _kind=$([[ $_name =~ ^[a-z][a-z_]*$ ]] && declare -p "$_name" 2>/dev/null) || true
      case $_name:$_kind in
        set:*) overrides+=(--set "$2") ;;
        passed_on:* | overrides:*) _usage_error "unknown option $1; --help lists all" ;;
        *:"declare -a"*) declare -n _array=$_name; _array+=("$2") ;;
        *:?*) printf -v "$_name" '%s' "$2" ;;
        *)
          declare -p passed_on >/dev/null 2>&1 || _usage_error "unknown option $1; --help lists all"
          passed_on+=("$1" "$2")
          ;;
      esac
      shift 2
      ;;
    -*) _usage_error "unknown option $1; options begin with two dashes (--help lists all)" ;;
    *) break ;;
  esac
done
