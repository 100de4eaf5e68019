//! Ways to execute what is not the image's content without being seen, each tried under Audit and under Kill, beside
//! a clean twin that must stay silent.

mod attempt;

use zastava_crds::wire::event::{
    DriftClass::{self, CopiedUp, Foreign, New, Unnamed},
    Killed::{self, Before, Late, No},
    Severity::{self, Critical, High, Low, Medium},
};

/// One way: shell lines that say `ran`. `$n` tells the two rounds apart; `$DO` makes a program say it, or stay where
/// it is to be killed late.
#[derive(Debug)]
struct Evasion {
    name: &'static str,
    way: &'static str,
    act: &'static str,
    /// The path that is told, its class and severity, and when Kill ends it; `None`: it is not told.
    told: Option<(&'static str, DriftClass, Severity, Killed)>,
    twin: &'static str,
}

macro_rules! evasions {
    ($($name:ident: $way:literal, $act:literal => $told:expr, twin $twin:literal;)*) => {
        const EVASIONS: &[Evasion] = &[$(
            Evasion { name: stringify!($name), way: $way, act: $act, told: $told, twin: $twin },
        )*];
        $(#[test]
        fn $name() {
            attempt::attempt(stringify!($name));
        })*
    };
}

evasions! {
    new_file: "a file that the container made",
        "cp /bin/odd /p$n; /p$n $DO" => Some(("/p$n", New, High, Before)), twin "/bin/odd say ran";
    hardlink_of_a_new_file: "a hardlink of such a file",
        "cp /bin/odd /p$n; ln /p$n /q$n; /q$n $DO" => Some(("/q$n", New, High, Before)),
        twin "/bin/printf 'ran\\n'";
    renamed_after_it_was_written: "a file that was renamed after it was written",
        "cp /bin/odd /p$n; mv /p$n /q$n; /q$n $DO" => Some(("/q$n", New, High, Before)), twin "/bin/odd say ran";
    renamed_while_it_runs: "a file that renames itself as soon as it runs",
        "cp /bin/odd /p$n; /p$n rename /q$n ran" => Some(("/p$n", New, High, Before)), twin "/bin/odd say ran";
    deleted_while_it_runs: "a file that removes itself as soon as it runs",
        "cp /bin/odd /p$n; /p$n gone ran" => Some(("/p$n", New, High, Before)), twin "/bin/odd say ran";
    replaced_while_it_runs: "a file that puts another one in its place as soon as it runs",
        "cp /bin/odd /p$n; cp /bin/busybox /q$n; /p$n replace /q$n ran" => Some(("/p$n", New, High, Before)),
        twin "/bin/odd say ran";
    rewritten_image_file: "a file of the image with other content",
        "echo x >>/bin/victim_$n; /bin/victim_$n $DO" => Some(("/bin/victim_$n", CopiedUp, High, Late)),
        twin "/bin/victim_$n say ran";
    rewritten_through_a_mapping: "the same, written through a shared mapping",
        "/bin/odd mapping /bin/other /bin/victim_$n; /bin/victim_$n $DO" => Some(("/bin/victim_$n", CopiedUp, High, Late)),
        twin "/bin/odd say ran";
    image_file_with_another_mode: "a file of the image whose mode was changed",
        "chmod 700 /bin/victim_$n; /bin/victim_$n say ran" => Some(("/bin/victim_$n", CopiedUp, Low, No)),
        twin "/bin/odd say ran";
    renamed_image_file: "a renamed file of the image",
        "mv /bin/victim_$n /q$n; /q$n say ran" => Some(("/q$n", CopiedUp, Medium, No)), twin "/bin/odd say ran";
    written_by_io_uring: "a file that was written with io_uring",
        "/bin/odd uring /bin/odd /p$n; /p$n $DO" => Some(("/p$n", New, High, Before)), twin "/bin/odd say ran";
    bound_over_an_image_path: "a file that is mounted over one of the image",
        "cp /bin/odd /p$n; echo x >>/p$n; mount -o bind /p$n /bin/victim_$n; /bin/victim_$n $DO"
            => Some(("/bin/victim_$n", New, High, Before)),
        twin "mount -o bind /bin/odd /bin/other; /bin/other say ran; umount /bin/other";
    volume: "a file of a volume or a tmpfs", "cp /bin/odd /data/p$n; /data/p$n $DO"
        => Some(("/data/p$n", Foreign, Medium, Before)), twin "cd /data; ../bin/odd say ran; cd /";
    chroot_into_a_volume: "the same after a chroot into the volume",
        "mkdir /data/r$n; cp /bin/odd /data/r$n/p; chroot /data/r$n /p $DO"
            => Some(("/data/r$n/p", Foreign, Medium, Before)),
        twin "chroot /bin /odd say ran";
    pivot_root: "the same after a pivot_root",
        "unshare -m sh -c \"mount -t tmpfs tmpfs /tmp; cp /bin/odd /tmp/p$n; mkdir /tmp/old; cd /tmp; pivot_root . old; exec /p$n $DO\""
            => Some(("/p$n", Foreign, Medium, Before)),
        twin "unshare -m sh -c 'mount -o bind / /tmp; cd /tmp; pivot_root . old; exec /bin/odd say ran'";
    user_namespace: "a new file in a user namespace",
        "cp /bin/odd /p$n; unshare -U /p$n $DO" => Some(("/p$n", New, High, Before)),
        twin "unshare -U /bin/odd say ran";
    own_overlay: "a copy of the image's content on an overlay of its own in a user namespace",
        "mkdir /tmp/o$n; /bin/odd overlay /tmp/o$n /bin/odd $DO"
            => Some(("/tmp/o$n/merged/busybox", Foreign, Medium, Before)),
        twin "unshare -Urm /bin/odd say ran";
    own_mount_on_an_allowed_path: "a file of a mount of its own on an allowed path",
        "cp /bin/odd /p$n; unshare -Urm sh -c \"mount -t tmpfs tmpfs /allowed; cp /bin/odd /allowed/p$n; exec /allowed/p$n $DO\""
            => Some(("/allowed/p$n", Foreign, Medium, Before)),
        twin "cp /bin/odd /allowed/p; /allowed/p say ran";
    execveat_of_a_descriptor: "execveat on a descriptor of a new file",
        "cp /bin/odd /p$n; /bin/odd fd /p$n $DO" => Some(("/p$n", New, High, Before)),
        twin "/bin/odd fd /bin/odd say ran";
    execveat_of_a_path_descriptor: "the same with an O_PATH descriptor",
        "cp /bin/odd /p$n; /bin/odd path /p$n $DO" => Some(("/p$n", New, High, Before)),
        twin "/bin/odd path /bin/odd say ran";
    execveat_of_a_deleted_file: "execveat on a deleted file",
        "cp /bin/odd /p$n; /bin/odd unlinked /p$n $DO" => Some(("/p$n", Unnamed, Critical, Before)),
        twin "/bin/odd unlinked /bin/other_$n say ran";
    execveat_of_a_memory_file: "execveat on a memory file",
        "/bin/odd memfd hidden$n /bin/odd $DO" => Some(("/memfd:hidden$n", Unnamed, Critical, Before)),
        twin "/bin/odd fd /bin/odd say ran";
    descriptor_in_proc: "a new file by `/proc/self/fd`",
        "cp /bin/odd /p$n; exec 3</p$n; /proc/self/fd/3 $DO" => Some(("/p$n", New, High, Before)),
        twin "exec 3</bin/odd; /proc/self/fd/3 say ran";
    itself_by_proc: "a new file that executes itself by `/proc/self/exe`",
        "cp /bin/odd /p$n; /p$n self say ran" => Some(("/p$n", New, High, Before)), twin "/bin/odd self say ran";
    applet_of_a_dropped_busybox: "an applet of a busybox that the container brought",
        "cp /bin/busybox /b$n; mkdir /d$n; ln -s /b$n /d$n/echo; /d$n/echo ran" => Some(("/b$n", New, High, Before)),
        twin "/bin/echo ran";
    script: "a script with an interpreter of the image",
        "printf '#!/bin/sh\\nexec /bin/odd %s\\n' \"$DO\" >/p$n; chmod 755 /p$n; /p$n"
            => Some(("/p$n", New, High, Late)),
        twin "/bin/script";
    argument_of_a_loader: "what a dynamic loader is told to run",
        "cp /bin/dynamic_sleep /p$n; /lib64/ld-linux-x86-64.so.2 /p$n $SLEEP && echo ran" => Some(("/p$n", New, High, Late)),
        twin "/lib64/ld-linux-x86-64.so.2 /bin/dynamic_sleep 0 && echo ran";
    argument_of_an_interpreter: "text that an interpreter of the image is told (`sh -c`, `python -c`)",
        "sh -c 'echo ran'" => None, twin "/bin/odd say ran";
    file_read_by_an_interpreter: "a file that an interpreter of the image is told to read (`sh FILE`)",
        "echo 'echo ran' >/p$n; sh /p$n" => None, twin "/bin/odd say ran";
}

/// The page that people read.
const PAGE: &str = include_str!("../../../../docs/operations/drift.md");

#[test]
fn the_page_says_what_was_tried() {
    let row = |one: &Evasion| {
        let way = one.way;
        let told = one.told.map_or("not told | – | –".to_owned(), |(_, class, severity, killed)| {
            let kill = match killed {
                Before => "before its first instruction",
                Late => "late",
                No => "lives",
            };
            format!("{class:?} | {severity:?} | {kill}")
        });
        format!("| {way} | {told} | `{}` |", one.name)
    };
    let wanted: Vec<String> = EVASIONS.iter().map(row).collect();
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |")).collect();
    assert_eq!(rows, wanted, "the table should be:\n{}", wanted.join("\n"));
}
