//! The page that shows the results.

use std::{fmt::Write as _, fs};

use super::{Results, Row};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/admission/discovery.md");
const BLESS: &str = "ZASTAVA_BLESS=1 cargo test -p zastava-verify --test engine matrix";

const HEAD: &str = "# How signatures are found

A signature, an attestation or an SBOM is looked for in this order, and nowhere else:

1. the referrers API of the image's registry, with its pages;
2. only where that did not suffice: the fallback tag `sha256-<digest>` of registries without that API, and cosign's legacy tags `sha256-<digest>.sig` and `.att`, all three at once.

What counts is the media type of a layer, not the artifact type that a list says. An index that is not signed itself is proven by its children, where each that a node of the cluster could run is. A registry has three answers: found, none, unknown; an unknown never reads as \"unsigned\". Notation signatures are seen and said not to be verified.

This table is written by the tests, from what they saw. Each row is a registry with an image, asked cold: signed by the policy's key, signed by another key, not signed at all, and signed while one of the requests fails, each of them once. The same is done with real registries and the real cosign in the end-to-end scenario `discovery`.

| The registry | The signature | signed | by another key | not signed | one request fails |
|---|---|---|---|---|---|
";

/// Holds the committed page against the results, or writes it.
pub(super) fn is_current(done: &[(Row, Results)]) {
    let mut page = HEAD.to_owned();
    for (row, results) in done {
        let short = |result: &str| result.replace('_', " ").replace("refused: ", "");
        let failing = results.failing.iter().rev().cloned().collect::<Vec<_>>().join(", or ");
        let Results { signed, stranger, unsigned, failing: _ } = results;
        let (stranger, unsigned) = (short(stranger), short(unsigned));
        writeln!(page, "| {} | {} | {signed} | {stranger} | {unsigned} | {failing} |", row.registry, row.place)
            .unwrap();
    }
    page.push_str(
        "\nWhere it says \"unknown, or proven\", some of the requests are not needed: the image is proven without \
         their answers.\n",
    );
    if std::env::var_os("ZASTAVA_BLESS").is_some() {
        fs::write(PATH, page).unwrap();
        return;
    }
    let committed = fs::read_to_string(PATH).unwrap_or_default();
    assert!(committed == page, "docs/admission/discovery.md is not what the tests see; write it anew: {BLESS}");
}
