# Debian sid's kubectl, without a change to the machine's sources: `sid_kubectl` prints where it is.

sid_kubectl() {
  local dir=$CACHE/sid
  if [ ! -x "$dir/root/usr/bin/kubectl" ]; then
    mkdir -p "$dir"/{lists/partial,archives/partial,root}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main" >"$dir/sources.list"
    : >"$dir/status"
    local options=(-qq -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$dir/lists"
      -o Dir::State::status="$dir/status" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Acquire::Languages=none
      -o APT::Sandbox::User=root)
    (cd "$dir" && apt-get "${options[@]}" update && apt-get "${options[@]}" download kubectl && dpkg-deb -x kubectl_*.deb root) >&2 || return 1
    rm -rf "$dir/lists"
  fi
  echo "$dir/root/usr/bin/kubectl"
}
