use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    super::self_test,
    ground::{Ground, Kept},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_self_test_comes_up_through_the_ring() {
    let Some(ground) = Ground::new('b') else { return };
    let store = Arc::new(Kept::default());
    let observing = ground.observe(&store);
    let shared = observing.running.shared.clone();
    let command = ["/bin/true".into()];
    assert!(timeout(Duration::from_millis(300), self_test::run(&command, shared.self_test.subscribe())).await.is_err());
    shared.maps.set_config(|config| config.agent = std::process::id()).unwrap();
    let came = self_test::run(&command, shared.self_test.subscribe()).await;
    assert!(came, "{:?} {:?}", observing.running.look().unwrap(), shared.maps.config().unwrap());
    assert_eq!(observing.running.look().unwrap().accounting.stored, 0);
    observing.stop();
}
