# Makes the file system of a machine inside fresh mount, pid and uts namespaces, says "ready", and
# then becomes the machine's first process. All it mounts goes with the mount namespace.
#
# usage: machine.sh HOSTNAME FOLDER CGROUP INIT [FILE TARGET MODE]...
#   FOLDER  existing and empty, becomes the mount point of everything
#   CGROUP  name of the cgroup that Docker's containers go to
#   INIT    command of the first process, on the machine
#   FILE    of the host, copied to TARGET on the machine
set -eu
name=$1 folder=$2 cgroup=$3 init=$4
shift 4

mount --make-rprivate /
mount -t tmpfs -o mode=755 machine "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" root "$folder/root"
root=$folder/root
while [ $# -gt 0 ]; do
  install -D -m "$3" "$1" "$root$2"
  shift 3
done
cd "$root"
mkdir -p proc sys dev run tmp var/lib/docker usr/local/sbin
mount -t proc proc proc
# That of this network namespace, with the host's cgroups.
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
# Overlay file systems, as which Docker keeps its images, cannot lie on another one.
mount -t tmpfs docker var/lib/docker
# The machine has no trace of what the host may have there.
rm -rf etc/docker etc/cni var/lib/cni var/cache/flanneld etc/cron.d
printf '#!/bin/sh\nexec /usr/sbin/dockerd --cgroup-parent=/%s "$@"\n' "$cgroup" \
  >usr/local/sbin/dockerd
chmod 755 usr/local/sbin/dockerd
echo "$name" >etc/hostname
hostname "$name"

mkdir run/host
pivot_root . run/host
cd /
umount -l /run/host
rmdir /run/host

# The lab's user: by real sudo, and let in by Docker. One of the same name on the host stays there.
id -u ubuntu >/dev/null 2>&1 || useradd --no-log-init --shell /bin/bash ubuntu
usermod --append --groups docker --home /home/ubuntu ubuntu
mkdir -p /home/ubuntu
chown -R ubuntu: /home/ubuntu
echo 'ubuntu ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/ubuntu
chmod 440 /etc/sudoers.d/ubuntu

echo ready
exec $init
