//! Single scripts where something fails under them in the middle: on a full disk, without an answer of Docker's. What
//! was there before must be there afterwards, whole.

use anyhow::Result;
use slipway_deploy::scripts::{ENV_WRITE, UNDEPLOY_ACCESS, UNDEPLOY_CONTAINERS};
use slipway_tests::world::TargetServer;

/// Runs a script as the server's `sh` does behind the bootstrap; gives its exit code and all that it said.
pub fn run(target: &TargetServer, data: &str, parts: &[&str]) -> Result<(i32, String)> {
    let bootstrap = "set -eu\numask 077\nexec 2>&1\ntell() { echo \"$1 $2\"; }\ndie() { tell failed \"$1 $2\"; exit 3; }\n\
                     root=/srv/projects slug=shop fence=1\n";
    let script = format!("{bootstrap}{data}\n{}", parts.concat());
    let said = target.sh(&format!(
        "file=$(mktemp); cat >$file <<'END OF SCRIPT'\n{script}\nEND OF SCRIPT\nsh $file && echo 0 || echo $?; rm $file"
    ))?;
    let (text, code) = said.trim_end().rsplit_once('\n').unwrap_or(("", said.trim_end()));
    Ok((code.parse()?, text.to_owned()))
}

/// All of it, on a project without compose files on a small disk.
pub fn hold_on_to_what_they_can_not_replace(target: &TargetServer) {
    let files = "cat /srv/projects/shop/.env /root/.ssh/authorized_keys";
    target
        .sh("mkdir -p /srv/projects /root/.ssh; mount -t tmpfs -o size=48k projects /srv/projects
             mount -t tmpfs -o size=64k,mode=700 keys /root/.ssh; mkdir -p /srv/projects/shop/.slipway
             cd /srv/projects/shop; echo POSTGRES_PASSWORD=$(seq 5000 | tr '\\n' -) >.env
             { seq 9000; echo 'restrict ssh-ed25519 AAAA slipway:shop'; } >/root/.ssh/authorized_keys")
        .unwrap();
    let before = target.sh(files).unwrap();

    let data = "env=$(seq 9000 | base64 -w 0) overrides= sealed= env_prod= has_prod=0";
    let (code, said) = run(target, data, ENV_WRITE).unwrap();
    assert!(code != 0 && said.contains("No space left on device"), "{code}: {said}");
    let (code, said) = run(target, "", UNDEPLOY_ACCESS).unwrap();
    assert!(code != 0 && !said.contains("changed key"), "{code}: {said}");
    assert_eq!(target.sh(files).unwrap(), before);

    // A docker that fails when it's asked for volumes, and a disk without room for what the data need.
    let volume = |answer: &str| {
        format!("prefix= repositories= remove_volumes=0\ndocker() {{ case $1 in volume) {answer} ;; esac; }}\n")
    };
    target.sh("cd /srv/projects; mkdir -p .slipway-kept/shop; : >.slipway-kept/shop/volumes").unwrap();
    let (code, said) = run(target, &volume("return 1"), UNDEPLOY_CONTAINERS).unwrap();
    assert!(code != 0 && !said.contains("kept"), "{code}: {said}");
    target.sh("[ -f /srv/projects/.slipway-kept/shop/volumes ]").unwrap();
    let (code, said) = run(target, &volume("echo shop_db_data"), UNDEPLOY_CONTAINERS).unwrap();
    assert!(code != 0 && said.contains("kept shop_db_data"), "{code}: {said}");
    target.sh("mount -o remount,size=256k /srv/projects").unwrap();
    let (code, said) = run(target, &volume("echo shop_db_data"), UNDEPLOY_CONTAINERS).unwrap();
    assert_eq!(code, 0, "{said}");
    target.sh("cmp /srv/projects/shop/.env /srv/projects/.slipway-kept/shop/env").unwrap();
    // What the contract has had generated is kept, too.
    target.sh("printf 'QUEUE_KEY=\"k\"\\nA=\"b\"\\n# generated QUEUE_KEY\\n' >>/srv/projects/shop/.env").unwrap();
    let (code, said) = run(target, &volume("echo shop_db_data"), UNDEPLOY_CONTAINERS).unwrap();
    assert_eq!(code, 0, "{said}");
    let kept = target.sh("tail -n 1 /srv/projects/.slipway-kept/shop/env").unwrap();
    assert_eq!(kept, "QUEUE_KEY=\"k\"\n");
    // Also where a request covers it.
    let notes = "# given QUEUE_KEY 0f\\n# before QUEUE_KEY=\"d\"\\n";
    target.sh(&format!("printf '{notes}# given A 1e\\n# before A=\"c\"\\n' >>/srv/projects/shop/.env")).unwrap();
    let (code, said) = run(target, &volume("echo shop_db_data"), UNDEPLOY_CONTAINERS).unwrap();
    assert_eq!(code, 0, "{said}");
    let kept = target.sh("grep '^#' /srv/projects/.slipway-kept/shop/env").unwrap();
    assert_eq!(kept, "# given QUEUE_KEY 0f\n# before QUEUE_KEY=\"d\"\n");
    target.sh("umount /srv/projects /root/.ssh").unwrap();
}
