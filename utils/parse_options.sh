# shellcheck shell=bash
# To be sourced. Turns "--some-name value" and "--some-name=value" into the variable some_name, for the names that the
# sourcing script lists in $options (words); --set may come several times and fills the array overrides, so may those that
# $repeated lists, which fill the arrays of their names. --help prints the comment at the top of the script. What is left are
# the script's arguments. Errors are one line and status 2.

_script=${0##*/}

_usage_error() { echo "$_script: $*" >&2; exit 2; }

# shellcheck disable=SC2154,SC2086  # options comes from the sourcing script, a list of words
_unknown_option() {
  local near=
  near=$(python3 -c 'import difflib, sys
print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1, 0.6))' "$1" $options 2>/dev/null) || true
  if [ -n "$near" ]; then
    _usage_error "unknown option --$1; did you mean --$near? (--help lists all)"
  fi
  _usage_error "unknown option --$1; --help lists all"
}

options=${options//$'\n'/ }
overrides=()
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h)
      sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "${script_file:-$0}"
      exit 0
      ;;
    --) shift; break ;;
    --*=*)
      _name=${1%%=*}
      set -- "$_name" "${1#*=}" "${@:2}"
      continue
      ;;
    --*)
      _name=${1#--}
      case " $options " in *" $_name "*) ;; *) _unknown_option "$_name" ;; esac
      [ $# -gt 1 ] || _usage_error "--$_name needs a value"
      case "$_name: ${repeated:-} " in
        set:*) overrides+=(--set "$2") ;;
        *" $_name "*) declare -n _array=${_name//-/_}; _array+=("$2") ;;
        *) printf -v "${_name//-/_}" '%s' "$2" ;;
      esac
      shift 2
      ;;
    -*) _usage_error "unknown option $1; options begin with two dashes (--help lists all)" ;;
    *) break ;;
  esac
done

for _name in nj seed stage stop-stage nproc nnodes; do
  _value=${_name//-/_}
  _value=${!_value:-}
  case " $options " in *" $_name "*) ;; *) continue ;; esac
  case $_value in
    '' | *[!0-9]*) [ -z "$_value" ] || _usage_error "--$_name $_value: a whole number is wanted" ;;
    0*) case $_name in nj | nproc | nnodes) _usage_error "--$_name $_value: at least 1 is wanted" ;; esac ;;
  esac
done
