#!/usr/bin/env bash
# Build `scrontab`, which Debian leaves out of its Slurm, from Debian's own sources: about 40 s.
#
#   tests/slurm/scrontab.sh DESTINATION
#
# It is linked against the library of the packages that are installed, so that it speaks their version. As root, on
# Debian or Ubuntu, after slurm-client was installed.
set -euo pipefail

destination=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

command -v gcc > /dev/null && command -v make > /dev/null ||
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc make libc6-dev

# The sources come from where the packages come from; most machines list only the packages.
list=$work/sources.list
sed -n 's/^deb \(.*debian\|.*ubuntu\)/deb-src \1/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    > "$list" 2> /dev/null || true
apt=(apt-get -qq -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
mkdir -p "$work/parts" "$work/lists/partial" "$work/source"
for file in /etc/apt/sources.list.d/*.sources; do
    grep -q 'debian\|ubuntu' "$file" 2> /dev/null || continue
    sed 's/^Types:.*/Types: deb-src/' "$file" > "$work/parts/$(basename "$file")"
done
apt+=(-o "Dir::Etc::sourcelist=$list" -o "Dir::Etc::sourceparts=$work/parts")
"${apt[@]}" update
version=$(dpkg-query --show --showformat='${source:Version}' slurm-client)
cd "$work/source"
"${apt[@]}" source --download-only "slurm-wlm=$version"

tar -xf ./*.orig.tar.* --strip-components=1
./configure --quiet > "$work/configure.log" 2>&1 || { tail -n 20 "$work/configure.log" >&2; exit 1; }
library=$(dirname "$(dpkg -L slurm-wlm-basic-plugins slurm-client 2> /dev/null | grep -m1 '/libslurmfull.so$')")
make --silent -C src/scrontab LIB_SLURM="$library/libslurmfull.so -ldl" LIB_SLURM_BUILD= LDFLAGS="-Wl,-rpath,$library" \
    > "$work/make.log" 2>&1 || { tail -n 20 "$work/make.log" >&2; exit 1; }
mkdir -p "$(dirname "$destination")"
install src/scrontab/scrontab "$destination"
