use std::fs;

use zastava_crds::wire::event::DriftClass;

use super::ground::{Ground, Inside, LIBRARY};
use crate::{
    drift::{Examiner, Mapped},
    probe::mapping::Mapping,
};

/// The library that the process mapped, as the kernel tells it now.
fn library(pid: u32) -> Mapping {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.contains(" r-xp ") && line.contains("/libc.so")).unwrap();
    let mut fields = line.split_whitespace();
    let (major, minor) = fields.nth(3).unwrap().split_once(':').unwrap();
    let number = |hex: &str| u32::from_str_radix(hex, 16).unwrap();
    Mapping {
        pid,
        monotonic_ns: 1,
        cpu: 0,
        address: 0,
        device: number(major) << 20 | number(minor),
        inode: fields.next().unwrap().parse().unwrap(),
        path: fields.next().unwrap().to_owned(),
    }
}

/// Starts a program with the library of this folder; its pid, once it is mapped.
fn load(inside: &mut Inside, folder: &str) -> u32 {
    let mapped = format!("until /bin/busybox grep -q 'r-xp.* {folder}/libc.so' /proc/$!/maps; do :; done");
    let run = format!("LD_LIBRARY_PATH={folder} /bin/dynamic_sleep 60 </dev/null >/dev/null 2>&1 & {mapped}; echo $!");
    inside.sh(&run).1.trim().parse().unwrap()
}

#[test]
fn a_folder_put_in_place_of_the_mapped_ones_makes_nothing_the_images() {
    let Some(ground) = Ground::new('5') else { return };
    if !ground.add_loader() {
        return;
    }
    let mut inside = ground.container();
    let container = ground.told(inside.child.id());
    let examiner = Examiner::new("/proc");
    examiner.set_host(std::process::id());
    let (images, _) = LIBRARY.rsplit_once('/').unwrap();
    inside.sh(&format!("mkdir /evil; cp {LIBRARY} /evil; echo >> /evil/libc.so.6"));
    let own = library(load(&mut inside, images));
    let evil = library(load(&mut inside, "/evil"));
    assert!(matches!(examiner.mapped(&own, &container, true, None), Mapped::Image), "{own:?}");
    let found = examiner.mapped(&evil, &container, true, None);
    let Mapped::Drift(located) = &found else { panic!("{found:?}") };
    assert_eq!(located.class, Some(DriftClass::New));

    assert_eq!(inside.sh(&format!("/bin/busybox mv /evil /away; /bin/busybox ln -s {images} /evil")).0, 0);
    // The kernel may tell its new name by now; it was mapped by the old one.
    let found = examiner.mapped(&evil, &container, true, None);
    assert!(!matches!(found, Mapped::Image), "{found:?}");
}
