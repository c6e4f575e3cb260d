# Becomes systemd as a machine's first process (see machine.sh), in cgroups and devices of its own. It
# starts what every system has, and none of the services that are installed on the host.
#
# usage: systemd.sh CGROUP
set -eu

cgroups=/sys/fs/cgroup
if [ -e "$cgroups/cgroup.controllers" ]; then
  hierarchies=.
else
  # Those of version 1, but for cpuset, which a group has to be told before processes may enter it.
  hierarchies=$(cd "$cgroups" && for path in */cgroup.procs; do dirname "$path"; done |
    grep -vE 'unified|cpuset')
fi

if [ "$1" != inside ]; then
  for hierarchy in $hierarchies; do
    mkdir -p "$cgroups/$hierarchy/$1"
    echo $$ >"$cgroups/$hierarchy/$1/cgroup.procs"
  done
  exec unshare --cgroup sh "$0" inside
fi

if [ "$hierarchies" = . ]; then
  mount -t cgroup2 cgroup "$cgroups"
else
  mount -t tmpfs -o mode=755 cgroups "$cgroups"
  for hierarchy in $hierarchies; do
    mkdir "$cgroups/$hierarchy"
    options=$hierarchy
    [ "$hierarchy" != systemd ] || options=none,name=systemd
    mount -t cgroup -o "$options" cgroup "$cgroups/$hierarchy"
  done
fi

# systemd makes devices; the host's are none of its business.
mkdir /run/dev
mount -t tmpfs -o mode=755 dev /run/dev
mkdir /run/dev/net /run/dev/shm /run/dev/pts
for device in null zero full random urandom tty net/tun; do
  touch "/run/dev/$device"
  mount --bind "/dev/$device" "/run/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=666 devpts /run/dev/pts
ln -s pts/ptmx /run/dev/ptmx
ln -s /proc/self/fd /run/dev/fd
mount --move /run/dev /dev
rmdir /run/dev

# As systemd leaves them outside of containers; credentials get to services that way.
mount --make-rshared /

exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=sysinit.target --show-status=no --log-target=null
