# The root file system that all target servers share, read-only: Debian 13 with OpenSSH, Docker Engine, Compose, git, ufw, and
# login shells of several kinds.
set -euo pipefail
root=$1 keys=$SLIPWAY_CACHE/keys
# The mirror is the one that this machine's own apt uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/\?$') ||
  { echo 'no Debian mirror in the apt configuration' >&2; exit 1; }
# With pigz, as Docker's own packages recommend it: Docker itself unpacks layers at half the speed.
include=openssh-server,docker.io,docker-cli,docker-compose,git,ca-certificates,ufw,iptables,iproute2,procps,python3,curl,pigz,sudo,tini,fish,zsh,csh,tcsh,login
mmdebstrap --quiet --variant=apt --components=main \
  --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
  --include="$include" trixie "$root" "$mirror"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*

cp "$keys/ca.pem" "$root/usr/local/share/ca-certificates/slipway-test.crt"
chroot "$root" update-ca-certificates >/dev/null
install -d -m 700 "$root/root/.ssh"
install -m 600 "$keys/worker.pub" "$root/root/.ssh/authorized_keys"
# Every server gets a host key of its own when it is made.
rm -f "$root"/etc/ssh/ssh_host_*
cat >"$root/etc/ssh/sshd_config.d/world.conf" <<'SSHD'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
SSHD
echo '%sudo ALL=(ALL:ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/world"
chmod 440 "$root/etc/sudoers.d/world"
