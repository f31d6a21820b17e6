# What the tests need from this machine: says what is missing, asks, installs. Sourced by tests/run, which sets
# `root`, `cache`, `logs`, `yes` and `chosen`; sets `python`.
# shellcheck shell=bash disable=SC2154

minimum_node=16

# Debian keeps HAProxy and nginx where only root looks for programs.
PATH=$PATH:/usr/sbin

set_up() {
  local packages kept=()
  if ! command -v cargo >/dev/null; then
    echo "Rust is missing: install it as https://rustup.rs describes, then run this again."
    return 1
  fi
  mapfile -t packages < <(missing_packages | sort -u)
  needs venv && ! kept_is_current venv && kept+=("Python packages, into tests/.cache/venv: $(pinned_python)")
  needs node && ! kept_is_current npm && kept+=("npm packages, into tests/.cache/npm: $(pinned_npm)")
  if ((${#packages[@]} + ${#kept[@]} > 0)); then
    confirm "${packages[*]}" "${kept[@]}" || return 1
  fi
  if ((${#packages[@]} > 0)); then
    install_packages "${packages[@]}" || return 1
    still_missing && return 1
  fi
  find_python
  if needs venv && ! kept_is_current venv; then
    fill_venv || return 1
  fi
  if needs node && ! kept_is_current npm; then
    fill_npm || return 1
  fi
}

confirm() {
  local debian=$1 line answer=""
  shift
  echo "Missing on this machine:"
  [[ -z $debian ]] || echo "  Debian packages, without starting any service: $debian"
  for line in "$@"; do echo "  $line"; done
  [[ $yes == yes ]] && return
  printf 'Install them now? [y/N] '
  read -r answer || echo
  [[ $answer == [yY] || $answer == [yY][eE][sS] ]] && return
  echo "Nothing was installed. tests/run --yes installs without asking."
  return 1
}

# --- Debian packages -------------------------------------------------------------------------------------------------

# require PROGRAM PACKAGE: names the package if the program is not there.
require() {
  command -v "$1" >/dev/null || echo "$2"
}

missing_packages() {
  local program
  require cc build-essential
  require curl curl
  needs certs && require openssl openssl
  needs chromium && require chromium chromium
  needs proxies && require haproxy haproxy && require nginx nginx
  if needs mosquitto; then
    for program in mosquitto_pub mosquitto_sub mosquitto_rr; do
      require "$program" mosquitto-clients
    done
  fi
  needs redis && require redis-server redis-server
  needs strace && require strace strace
  needs mosquitto-broker && require mosquitto mosquitto
  if needs packaging; then
    require systemd-analyze systemd && require docker-compose docker-compose && require git git && require ip iproute2
    # nginx has it as a module of its own.
    [[ -e /usr/lib/nginx/modules/ngx_stream_module.so ]] || echo libnginx-mod-stream
  fi
  if needs python || needs venv; then
    find_python || printf '%s\n' python3 python3-venv
  fi
  if needs node; then
    node_is_recent || echo nodejs
    require npm npm
  fi
}

# Sets `python` to one that can make virtual environments; the first in PATH need not be Debian's.
find_python() {
  for python in python3 /usr/bin/python3; do
    "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 9))' 2>/dev/null && return
  done
  return 1
}

node_is_recent() {
  node -e "process.exit(parseInt(process.versions.node) < $minimum_node ? 1 : 0)" 2>/dev/null
}

install_packages() {
  local root_shell=()
  if ! command -v apt-get >/dev/null; then
    echo "This is no Debian: install the programs of these packages yourself: $*"
    return 1
  fi
  if ((EUID != 0)); then
    command -v sudo >/dev/null && root_shell=(sudo)
    # Without a terminal nobody can type a password.
    [[ -t 0 || ${#root_shell[@]} -eq 0 ]] || root_shell+=(-n)
    if ((${#root_shell[@]} == 0)) || ! "${root_shell[@]}" true; then
      echo "Installing needs root, and sudo is missing or refused. As root: apt-get install $*"
      return 1
    fi
  fi
  "${root_shell[@]}" sh "$root/tests/apt-install.sh" "$@"
}

still_missing() {
  local packages
  hash -r
  mapfile -t packages < <(missing_packages | sort -u)
  ((${#packages[@]} > 0)) || return 1
  echo "Still missing or too old after the installation: ${packages[*]}"
  echo "(Python must be 3.9 or newer with venv, Node.js $minimum_node or newer.)"
}

# --- Packages kept in tests/.cache -----------------------------------------------------------------------------------
# A stamp beside each says for which pins and which interpreter it was filled.

python_pins=(tests/clients/paho-mqtt/requirements.txt tests/packaging/requirements.txt)

pinned_python() {
  sed 's/ .*//' "${python_pins[@]}" | paste -s -d ' '
}

pinned_npm() {
  sed -n 's/^ *"mqtt": "\(.*\)"$/mqtt \1/p' tests/clients/mqttjs/package.json
}

stamp_of() {
  case $1 in
    venv) find_python && { "$python" -VV; command -v "$python"; cat "${python_pins[@]}"; } ;;
    npm) node --version && cat tests/clients/mqttjs/package.json tests/clients/mqttjs/package-lock.json ;;
  esac
}

kept_is_current() {
  local stamp
  stamp=$(stamp_of "$1" 2>/dev/null) && [[ $stamp == "$(cat "$cache/$1.stamp" 2>/dev/null)" ]]
}

fill_venv() {
  heading "installing Python packages into tests/.cache/venv"
  rm -rf "$cache/venv" "$cache/venv.stamp"
  run_job 600 "$logs/venv.log" "$python" -m venv "$cache/venv" &&
    run_job 600 "$logs/pip.log" "$cache/venv/bin/python" -m pip install --disable-pip-version-check --no-input \
      --require-hashes --no-deps "${python_pins[@]/#/--requirement=}" &&
    stamp_of venv >"$cache/venv.stamp"
}

fill_npm() {
  heading "installing npm packages into tests/.cache/npm"
  rm -rf "$cache/npm" "$cache/npm.stamp"
  mkdir -p "$cache/npm"
  cp tests/clients/mqttjs/package.json tests/clients/mqttjs/package-lock.json "$cache/npm" &&
    run_job 600 "$logs/npm.log" npm ci --prefix "$cache/npm" --no-audit --no-fund --ignore-scripts &&
    stamp_of npm >"$cache/npm.stamp"
}
