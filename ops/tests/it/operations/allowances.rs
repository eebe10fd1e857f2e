//! What operators allow beyond what every project gets.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_allowed_is_recorded_with_its_reason_and_can_be_taken_back() {
    let (database, store) = TestDatabase::migrated("w").await;
    let operator = || operator(Some(&database), None);
    let (shop, other) = ("0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c12");
    let standing = async |server: &str, id: &str, slug: &str| {
        let project = serde_json::from_value(json!({ "id": id, "slug": slug })).unwrap();
        let found = store.allowances(&server.parse().unwrap(), &project).await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];

    let without_reason = run(operator(), &["projects", "allow", "shop", "cap:NET_ADMIN", "--id", shop]).await;
    assert!(without_reason.contains("an allowance needs a reason"), "{without_reason}");
    let nonsense = run(operator(), &["projects", "allow", "shop", "everything", "--why", "x"]).await;
    assert!(nonsense.contains("is no allowance"), "{nonsense}");
    assert_eq!(standing("vps-1", shop, "shop").await, none);

    let nobody = run(operator(), &["projects", "allow", "shop", "cap:NET_ADMIN", "--why", "x"]).await;
    assert!(nobody.contains("no project shop was ever requested"), "{nobody}");
    let because = ["--why", "they run a VPN", "--as", "ada"];
    let allow = |rest: [&'static str; 4]| [&rest[..], &because[..]].concat();
    let early = [&allow(["projects", "allow", "shop", "cap:net_admin"])[..], &["--id", shop]].concat();
    let allowed = run(operator(), &early).await;
    assert!(allowed.contains("Allowed project shop cap:NET_ADMIN"), "{allowed}");
    run(operator(), &allow(["servers", "allow", "vps-1", "bind:/srv/media:ro"])).await;
    let mut event: Value = serde_json::from_slice(&with_secrets("shop")).unwrap();
    event["data"]["project"]["id"] = shop.into();
    accept(&store, event.to_string().as_bytes()).await;
    let again = run(operator(), &allow(["projects", "allow", "shop", "cap:NET_ADMIN"])).await;
    assert!(again.contains("Project shop has been allowed cap:NET_ADMIN already"), "{again}");
    assert_eq!(standing("vps-1", shop, "shop").await, ["bind:/srv/media:ro", "cap:NET_ADMIN"]);
    assert_eq!(standing("vps-2", shop, "shop").await, ["cap:NET_ADMIN"]);
    assert_eq!(standing("vps-1", other, "other").await, ["bind:/srv/media:ro"]);
    assert_eq!(standing("vps-2", other, "other").await, none);

    assert_eq!(standing("vps-2", other, "shop").await, none, "another project with the same slug");

    let revoke = ["projects", "revoke", "shop", "cap:NET_ADMIN", "--why", "they don't any more", "--as", "bob"];
    assert!(run(operator(), &revoke).await.starts_with("exit: 0\n"));
    let twice = run(operator(), &revoke).await;
    assert!(twice.contains("project shop isn't allowed cap:NET_ADMIN"), "{twice}");
    assert_eq!(standing("vps-2", shop, "shop").await, none);
    run(operator(), &allow(["projects", "allow", "shop", "cap:NET_ADMIN"])).await;

    let listed = json_of(operator(), &["projects", "allowances", "shop"]).await;
    let [first, second] = &listed.as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&first["who"], &first["why"]), (&json!("ada"), &json!("they run a VPN")));
    assert_eq!((&first["revoked"]["who"], &first["revoked"]["why"]), (&json!("bob"), &json!("they don't any more")));
    assert_eq!((&second["allowance"], &second["revoked"]), (&json!("cap:NET_ADMIN"), &Value::Null));
    let table = run(operator(), &["servers", "allowances", "vps-1"]).await;
    assert!(table.contains("bind:/srv/media:ro") && table.contains("they run a VPN"), "{table}");

    let mut elsewhere: Value = serde_json::from_slice(&with_secrets("shop")).unwrap();
    elsewhere["data"]["server"]["handle"] = json!("vps-2");
    accept(&store, elsewhere.to_string().as_bytes()).await;
    let ambiguous = run(operator(), &allow(["projects", "allow", "shop", "privileged"])).await;
    assert!(ambiguous.contains("several projects are or were called shop") && ambiguous.contains(shop), "{ambiguous}");
}
