# Parameters: root scratch. First, in a mount namespace of its own. Lays an overlay over the projects' directory: what
# is written from here on goes into $scratch, in memory, and is seen by nobody else.
place=$root
while [ ! -d "$place" ]; do place=$(dirname "$place"); done
find /dev/shm -maxdepth 1 -name 'slipway-plan.*' -mmin +60 -exec rm -rf {} +
mkdir -p "$scratch/upper" "$scratch/work"
chmod --reference="$place" "$scratch/upper"
mount -t overlay -o "lowerdir=$place,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$place" ||
    die internal-error "no layer can be laid over $place, so nothing can be rehearsed"
