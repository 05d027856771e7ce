# shellcheck shell=bash
# Source this to parse options. The sourcing script declares its options with their defaults:
#
#   declare -A default=([some_name]=value)
#
# "--some-name value" or "--some-name=value" then sets the variable some_name. --set section.key=value may be repeated and is
# appended to the array overrides; --trials FILE and --source TEXT likewise, if the script declares the arrays trials and source. If
# the script declares the array passed_on, it receives all other options. --help prints the comment at the top of the script.
# Afterwards, "$@" holds the script's arguments.

_usage_error() { echo "${0##*/}: $*" >&2; exit 2; }

for _name in "${!default[@]}"; do printf -v "$_name" '%s' "${default[$_name]}"; done
overrides=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "${_script:-$0}"; exit 0 ;;
    --) shift; break ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --*)
      [ $# -gt 1 ] || _usage_error "$1 needs a value"
      _name=${1#--}
      _name=${_name//-/_}
      if [ "$_name" = set ]; then
        overrides+=(--set "$2")
      elif [[ $_name =~ ^[a-z_]+$ ]] && [ -n "${default[$_name]+declared}" ]; then
        printf -v "$_name" '%s' "$2"
      elif [[ $_name =~ ^(trials|source)$ ]] && [[ $(declare -p "$_name" 2>/dev/null) = "declare -a"* ]]; then
        declare -n _list=$_name
        _list+=("$2")
      elif declare -p passed_on >/dev/null 2>&1; then
        passed_on+=("$1" "$2")
      else
        _usage_error "unknown option $1; --help lists all"
      fi
      shift 2
      ;;
    -*) _usage_error "unknown option $1; options begin with two dashes (--help lists all)" ;;
    *) break ;;
  esac
done
