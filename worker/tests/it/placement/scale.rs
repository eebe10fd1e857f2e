//! How long a choice takes where there is much to choose from.

#![expect(clippy::print_stdout, reason = "tells the soak's figures")]

use std::time::Instant;

use super::*;

/// As long a choice may take, reading all servers and writing the reservation included; without optimisation ten times as long.
const LONGEST: Duration = if cfg!(debug_assertions) { Duration::from_millis(200) } else { Duration::from_millis(20) };

#[tokio::test(flavor = "multi_thread")]
#[ignore = "says most with --release: ./tests/soak"]
async fn soak_a_choice_among_a_thousand_servers_takes_less_than_twenty_milliseconds() {
    let (database, store) = TestDatabase::migrated("w").await;
    let fill = "
        INSERT INTO servers (handle, address, host_key, labels)
        SELECT 'vps-' || n, '203.0.113.7', 'ssh-ed25519 AAAA', ARRAY['ssd'] FROM generate_series(1, 1000) n;
        UPDATE server_facts SET seen_at = now(), ram_mb = 65536, free_ram_mb = 20000 + (random() * 20000)::integer,
            disk_mb = 500000, free_disk_mb = 200000, free_inodes = 1000000, cpus = 8, load = random() * 4,
            ports = ARRAY(SELECT (20000 + n)::integer FROM generate_series(1, 30) n);
        INSERT INTO project_places (project_id, project_slug, server, succeeded, begun)
        SELECT gen_random_uuid(), 'project-' || n, 'vps-' || 1 + n % 1000, n, n FROM generate_series(1, 10000) n;
        ANALYZE";
    database.sql.batch_execute(fill).await.unwrap();
    let mut took = Vec::new();
    for round in 0..60 {
        accept(&store, &unplaced(|_| {})).await;
        let begun = Instant::now();
        place(&store, &limits()).await;
        // The first ones prepare statements.
        if round >= 10 {
            took.push(begun.elapsed());
        }
    }
    took.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("a choice among 1,000 servers with 10,000 projects takes {median:?}, {most:?} at most");
    assert!(median < LONGEST, "{median:?}");
    let servers = database.count("SELECT count(DISTINCT server) FROM reservations").await;
    println!("60 projects went to {servers} servers");
    assert_eq!(store.waiting_for_room().await.unwrap(), 0);
}
