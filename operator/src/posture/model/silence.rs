//! Registries that don't answer: unknown is neither a pass nor a violation.

use std::time::Duration;

use super::house::{House, KEY_B};

const MINUTE: Duration = Duration::from_mins(1);
const OPEN: &str = "open web main signatures[team] (1)";

#[tokio::test]
async fn unknown_makes_no_finding_and_is_told_after_a_while() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.registry.away(true);
    house.settle().await;
    house.pass(MINUTE * 9).await;
    assert_eq!((house.outlook().pending, house.outlook().unknown), (1, 0));
    house.pass(MINUTE).await;
    let outlook = house.outlook();
    assert_eq!((outlook.pending, outlook.unknown), (0, 1));
    let doubt = outlook.doubt.unwrap();
    assert_eq!(doubt, "registry.example/web:1 of shop/web: registry.example does not answer; next: look after it");
    house.pass(MINUTE * 600).await;
    assert!(house.told().is_empty());
    house.registry.away(false);
    house.pass(MINUTE * 10).await;
    assert_eq!(house.told(), [OPEN], "asked again within ten minutes");
}

#[tokio::test]
async fn an_open_finding_stays_while_nothing_can_be_said() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.settle().await;
    house.registry.away(true);
    // A new generation is a new question, whose answer nobody has.
    house.edit(|spec| spec["mode"] = "Warn".into());
    house.settle().await;
    house.pass(MINUTE * 60).await;
    assert_eq!(house.told(), [OPEN]);
    house.sign('d');
    house.registry.away(false);
    house.pass(MINUTE * 10).await;
    assert_eq!(house.told(), ["Satisfied web main signatures[team] (1)"]);
}

#[tokio::test]
async fn a_short_outage_is_no_news_and_a_long_one_ends_a_pass() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.sign('d');
    house.settle().await;
    house.registry.away(true);
    house.pass(MINUTE * 60).await;
    assert_eq!(house.outlook().satisfied, 1);
    house.pass(MINUTE * 10).await;
    assert_eq!((house.outlook().satisfied, house.outlook().unknown), (0, 1));
}

#[tokio::test]
async fn a_key_that_can_not_be_had_says_nothing_about_images() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.key(KEY_B);
    house.settle().await;
    assert_eq!(house.told(), [OPEN]);
    house.no_key();
    house.settle().await;
    assert_eq!(house.told(), [OPEN]);
    let doubt = house.outlook().doubt.unwrap();
    assert!(doubt.contains("ConfigMap zastava-system/keys does not exist: create it"), "{doubt}");
}

#[tokio::test]
async fn a_new_leader_resolves_nothing_before_it_has_answers() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.settle().await;
    let writes = house.store.writes();
    house.registry.away(true);
    house.another_leads();
    house.settle().await;
    house.pass(MINUTE * 5).await;
    house.registry.away(false);
    house.pass(MINUTE * 10).await;
    assert_eq!(house.told(), [OPEN]);
    assert_eq!(house.store.writes(), writes);
}

#[tokio::test]
async fn a_check_that_breaks_off_is_made_again_though_another_hangs() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.run("slow", 1, 'e');
    house.registry.break_off('d');
    house.registry.hang('e');
    house.look().await;
    house.answered().await;
    let mut asked = house.registry.asked();
    asked.sort();
    assert_eq!(asked, ["d", "e"]);
    house.look().await;
    tokio::task::yield_now().await;
    assert!(house.registry.asked().is_empty(), "not at once");
    house.registry.mend();
    house.now += Duration::from_secs(15);
    house.look().await;
    house.answered().await;
    house.look().await;
    assert_eq!((house.registry.asked(), house.told()), (vec!["d".to_owned()], vec![OPEN.to_owned()]));
    assert_eq!(house.metrics.checks("broken_off"), 1);
}
