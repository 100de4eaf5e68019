//! Which digests are asked about.

use super::house::{House, sha};
use crate::pods::PodContainer;

fn container(name: &str, image: &str, id: Option<String>) -> PodContainer {
    PodContainer { name: name.to_owned(), image: image.to_owned(), image_id: id }
}

#[tokio::test]
async fn containers_of_all_kinds_and_volumes_are_asked_about_once_they_run() {
    let mut house = House::new();
    let id = |digest: char| Some(format!("registry.example/app@{}", sha(digest)));
    let containers = vec![
        container("main", &format!("registry.example/app:1@{}", sha('a')), id('f')),
        container("init", "registry.example/app:1", id('b')),
        container("debug", "registry.example/app:1", id('c')),
        container("waits", &format!("registry.example/app@{}", sha('9')), None),
    ];
    let volumes = vec![
        ("data".to_owned(), format!("registry.example/data@{}", sha('d'))),
        ("loose".to_owned(), "registry.example/data:1".to_owned()),
    ];
    house.pod("web", 1, containers, volumes);
    house.settle().await;
    let mut asked = house.registry.asked();
    asked.sort();
    assert_eq!(asked, ["a", "b", "c", "d"]);
    // Of a volume without a digest nothing can be said, at once and for good.
    let outlook = house.outlook();
    assert_eq!((outlook.images, outlook.violated, outlook.unknown), (5, 4, 1));
    assert!(outlook.doubt.unwrap().contains("name the image by its digest"));
    let told = house.told();
    assert!(told.contains(&"open web volume/data signatures[team] (1)".to_owned()), "{told:?}");
}

#[tokio::test]
async fn a_pod_that_ended_or_has_no_node_runs_nothing() {
    let mut house = House::new();
    house.run("web", 1, 'a');
    house.run("job", 1, 'b');
    let changed = |pod: &crate::pods::Pod| {
        let mut pod = pod.clone();
        if pod.workload.name == "job" {
            pod.finished = true;
        } else {
            pod.node = None;
        }
        std::sync::Arc::new(pod)
    };
    house.pods = house.pods.iter().map(|pod| changed(pod)).collect();
    house.settle().await;
    assert!(house.registry.asked().is_empty());
    assert_eq!(house.outlook().images, 0);
}

#[tokio::test]
async fn equal_images_under_other_names_are_one_question_and_the_same_digest_elsewhere_is_another() {
    let mut house = House::new();
    let id = |repository: &str| Some(format!("{repository}@{}", sha('a')));
    let hub = "docker.io/library/nginx";
    for (n, image) in ["nginx:1", "nginx:2", "docker.io/library/nginx"].into_iter().enumerate() {
        house.pod("web", n, vec![container("main", image, id(hub))], Vec::new());
    }
    house.pod(
        "other",
        1,
        vec![container("main", "registry.example/nginx:1", id("registry.example/nginx"))],
        Vec::new(),
    );
    house.settle().await;
    assert_eq!(house.registry.asked(), ["a", "a"]);
}
