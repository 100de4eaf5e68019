//! Compiles the kernel side with clang; its path may be named in `CLANG`.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let source = PathBuf::from("bpf/exec.bpf.c");
    let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let object = folder.join("exec.bpf.o");
    for input in ["exec.bpf.c", "container.h", "file.h", "judge.h", "maps.h", "process.h", "record.h", "vmlinux.h"] {
        println!("cargo::rerun-if-changed=bpf/{input}");
    }
    println!("cargo::rerun-if-env-changed=CLANG");
    let named = env::var("CLANG").ok();
    let candidates = named.as_deref().map_or_else(|| vec!["clang-14", "clang"], |clang| vec![clang]);
    for clang in &candidates {
        let run = Command::new(clang)
            .args([
                "-g",
                "-O2",
                "-Wall",
                "-Werror",
                "-target",
                "bpf",
                "-fdebug-prefix-map=.=/",
                "-fdebug-compilation-dir=/",
            ])
            .arg("-c")
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .status();
        match run {
            Ok(status) if status.success() => return,
            Ok(status) => {
                println!("cargo::error={clang} did not compile {}: {status}", source.display());
                return;
            }
            // The next name may be installed.
            Err(_) => {}
        }
    }
    println!("cargo::error=no clang among {candidates:?}: install clang and libbpf-dev, or name it in CLANG");
}
