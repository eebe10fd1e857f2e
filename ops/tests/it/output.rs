//! Where what the program prints goes: a file on a full disk, and a reader that doesn't read on.

#[test]
fn what_cannot_be_written_is_told_and_a_reader_that_went_away_is_not() {
    let mut explain = std::process::Command::new(assert_cmd::cargo::cargo_bin!("slipway"));
    explain.arg("explain").env_clear();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = explain.stdout(full).output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(
        (ended.status.code(), said.contains("stdout can't be written: No space left")),
        (Some(1), true),
        "{said}"
    );
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = explain.stdout(writer).output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.is_empty()), (Some(141), true));
}
