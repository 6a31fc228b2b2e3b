# Root file systems made of Debian packages: `rootfs NAME PACKAGE...`, below $CACHE/roots.
# Packages are fetched with all that they depend on, as if nothing were installed here, and only unpacked: none of
# their scripts runs. What a container never needs (init systems, debconf, Perl, the JIT's compiler) is left out.

LEFT_OUT='^(perl.*|libperl.*|libllvm.*|libz3-.*|debconf|cdebconf|libdebian-installer.*|libnewt.*|libslang.*|dpkg|tar|ucf|sensible-utils|ssl-cert|openssl|postgresql(-client)?-common|netbase|lsb-base|init-system-helpers|sysvinit-utils|passwd|adduser|login|libpam-modules.*|libpam-runtime|libsystemd-shared|systemd.*|locales|libc-l10n|logsave|iproute2|util-linux.*|mount|libsemanage.*|libsepol.*|procps|libgdbm.*|libdb5.*|nginx-common|libcap2-bin|libbpf.*|libelf.*|libxtables.*)$'

fetch_packages() { # PACKAGE... -> names of archives, one a line
  local status=$CACHE/empty-status uri file
  mkdir -p "$CACHE/debs"
  : >"$status"
  apt-get -qq -o Dir::State::status="$status" install --no-install-recommends --print-uris "$@" |
    while read -r uri file _; do
      uri=${uri//\'/}
      [[ ${file%%_*} =~ $LEFT_OUT ]] && continue
      [ -s "$CACHE/debs/$file" ] || { curl -fsS -o "$CACHE/debs/$file.part" "$uri" && mv "$CACHE/debs/$file"{.part,}; }
      echo "$file"
    done
}

unpack() { # DIRECTORY ARCHIVE...
  local root=$1 dir file
  shift
  for dir in bin sbin lib lib64; do
    mkdir -p "$root/usr/$dir"
    ln -sfn "usr/$dir" "$root/$dir"
  done
  for file; do
    dpkg-deb --fsys-tarfile "$CACHE/debs/$file" |
      tar -x --keep-directory-symlink -C "$root" --exclude='./usr/share/doc' --exclude='./usr/share/man' \
        --exclude='./usr/share/locale'
  done
}

users() { # DIRECTORY
  mkdir -p "$1"/{etc,tmp,root,proc,sys,dev,run,var/log/nginx,var/lib/nginx,data}
  chmod 1777 "$1/tmp"
  printf '%s\n' root:x:0:0::/root:/bin/sh www-data:x:33:33::/:/bin/sh redis:x:999:999::/data:/bin/sh \
    postgres:x:998:998::/data:/bin/sh nobody:x:65534:65534::/:/bin/sh >"$1/etc/passwd"
  printf '%s\n' root:x:0: www-data:x:33: redis:x:999: postgres:x:998: nogroup:x:65534: >"$1/etc/group"
}

rootfs() { # NAME PACKAGE...
  local name=$1 root=$CACHE/roots/$1
  shift
  # Made of the same packages already.
  [ "$(cat "$root.done" 2>/dev/null)" = "$* $LEFT_OUT" ] && return
  rm -rf "$root" "$root.done" "$CACHE/$name.tar.gz"
  mkdir -p "$root"
  local files
  files=$(fetch_packages "$@") || return 1
  # shellcheck disable=SC2086
  unpack "$root" $files || return 1
  users "$root"
  [ -x "$root/usr/bin/busybox" ] && {
    local applet
    for applet in $("$root/usr/bin/busybox" --list); do
      [ -e "$root/usr/bin/$applet" ] || [ -L "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
    done
  }
  echo "$* $LEFT_OUT" >"$root.done"
}
