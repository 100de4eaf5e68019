//! What is not done: nothing is asked twice, and nothing is written that is there.

use std::time::Duration;

use super::house::House;
use crate::finding::{model::store::Fault, store::FindingStore as _};

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn one_question_an_image_however_many_pods_run_it() {
    let mut house = House::new();
    for n in 0..50 {
        house.run("web", n, 'd');
    }
    house.run("db", 1, 'e');
    house.settle().await;
    let mut asked = house.registry.asked();
    asked.sort();
    assert_eq!(asked, ["d", "e"]);
    assert_eq!(house.metrics.checks("no_signature"), 2);
    assert_eq!(house.store.writes(), 4, "two findings: one create and one status each");
    let status = house.store.stored().into_iter().map(|finding| finding.status.unwrap());
    let mut pods: Vec<_> = status.map(|status| status.pods.len()).collect();
    pods.sort_unstable();
    assert_eq!(pods, [1, 5]);
}

#[tokio::test]
async fn at_rest_nothing_is_written_and_each_image_is_asked_about_once_an_interval() {
    let mut house = House::new();
    for (n, digest) in ['a', 'b', 'c', 'd', 'e', 'f'].into_iter().enumerate() {
        house.run(&format!("w{n}"), 1, digest);
        if digest > 'b' {
            house.sign(digest);
        }
    }
    house.settle().await;
    let (told, writes) = (house.told(), house.store.writes());
    house.registry.asked();
    house.pass(MINUTE * 50).await;
    assert!(house.registry.asked().is_empty());
    house.pass(MINUTE * 10).await;
    let mut asked = house.registry.asked();
    asked.sort();
    assert_eq!(asked, ["a", "b", "c", "d", "e", "f"]);
    house.pass(MINUTE * 600).await;
    assert_eq!((house.told(), house.store.writes()), (told, writes));
}

#[tokio::test]
async fn what_is_asked_draws_apart() {
    let mut house = House::new();
    for n in 0..16_u32 {
        house.run("web", usize::try_from(n).unwrap(), char::from_digit(n, 16).unwrap());
    }
    house.settle().await;
    house.registry.asked();
    let mut bursts = Vec::new();
    for _ in 0..60 {
        house.pass(MINUTE).await;
        bursts.push(house.registry.asked().len());
    }
    assert_eq!(bursts.iter().sum::<usize>(), 16);
    assert!(bursts.iter().all(|burst| *burst < 9), "{bursts:?}");
    assert!(bursts.iter().filter(|burst| **burst > 0).count() > 3, "{bursts:?}");
}

#[tokio::test]
async fn a_new_digest_is_asked_about_at_once_and_the_old_ones_are_not() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.settle().await;
    house.registry.asked();
    house.run("web", 2, 'e');
    house.settle().await;
    assert_eq!(house.registry.asked(), ["e"]);
}

#[tokio::test]
async fn a_write_that_fails_or_is_cut_off_is_made_again_and_counts_once() {
    for fault in [Fault::Before, Fault::After] {
        for at in 0..2 {
            let mut house = House::new();
            house.run("web", 1, 'd');
            house.store.script((0..=at).map(|n| (n == at).then_some(fault)));
            house.settle().await;
            house.pass(MINUTE).await;
            assert_eq!(house.told(), ["open web main signatures[team] (1)"], "{fault:?} of write {at}");
        }
    }
}

#[tokio::test]
async fn a_person_s_write_beside_ours_is_not_lost() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.settle().await;
    let name = house.store.stored()[0].metadata.name.clone().unwrap();
    house.store.change("shop", &name, |status| status.unverified = true);
    house.sign('d');
    house.pass(MINUTE * 60).await;
    let status = house.store.stored()[0].status.clone().unwrap();
    assert!(status.resolved.is_some() && status.unverified);
}

#[tokio::test]
async fn a_finding_that_somebody_deletes_comes_back_while_it_is_true() {
    let mut house = House::new();
    house.run("web", 1, 'd');
    house.settle().await;
    let finding = house.store.stored().remove(0);
    house.store.delete(&finding).await.unwrap();
    house.settle().await;
    assert_eq!(house.told(), ["open web main signatures[team] (1)"]);
}

#[tokio::test]
async fn a_check_that_has_ended_makes_room_for_the_next() {
    let mut house = House::new();
    for n in 0..6_u32 {
        house.run("web", usize::try_from(n).unwrap(), char::from_digit(n, 16).unwrap());
    }
    house.look().await;
    // As many as run at a time: all of them end meanwhile.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.registry.asked().len(), 4);
    house.look().await;
    tokio::task::yield_now().await;
    assert_eq!(house.registry.asked().len(), 2);
}
