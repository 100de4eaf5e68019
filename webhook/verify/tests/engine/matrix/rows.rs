//! The rows.

use super::{
    Api::{self, Elsewhere, Mode, Page, Status},
    Asks::{self, Sbom, Signature},
    BUNDLE, BUNDLE_0_1,
    Image::{self, Children, Docker, Index, Single},
    OCI_EMPTY,
    Put::{self, Attached, AttachedAmongOthers, FallbackTag, LegacyTag, LegacyTagBesideBundles},
    Referrers, Row,
};

const LISTED: Api = Mode(Referrers::Listed);
const ABSENT: Api = Status(404);

fn row(registry: &'static str, place: &'static str, api: Api, put: Put) -> Row {
    Row { registry, place, api, put, image: Single, asks: Signature }
}

impl Row {
    fn of(mut self, image: Image) -> Self {
        self.image = image;
        self
    }

    fn asking(mut self, asks: Asks) -> Self {
        self.asks = asks;
        self
    }
}

pub(super) fn all() -> Vec<Row> {
    let (bundle, tag, sig) = (Attached(BUNDLE), FallbackTag(BUNDLE), LegacyTag);
    vec![
        row("referrers API", "a bundle", LISTED, bundle),
        row("referrers API", "a bundle v0.1", LISTED, Attached(BUNDLE_0_1)),
        row("referrers API", "the last of several bundles, one of them unreadable", LISTED, AttachedAmongOthers),
        row("referrers API in pages", "on the last page", Mode(Referrers::Paged), AttachedAmongOthers),
        row("referrers API that says the config's type (OCI empty)", "a bundle", Mode(Referrers::Mistyped), bundle),
        row("referrers API that says no type", "a bundle", Mode(Referrers::Untyped), bundle),
        row("referrers API", "legacy `.sig` beside bundles of others", LISTED, LegacyTagBesideBundles),
        row("referrers API", "legacy `.sig` alone", LISTED, sig),
        row("no referrers API (404)", "fallback tag", ABSENT, tag),
        row("no referrers API (405)", "fallback tag", Status(405), tag),
        row("no referrers API (400)", "fallback tag", Status(400), tag),
        row("no referrers API (406)", "fallback tag", Status(406), tag),
        row("no referrers API (410)", "fallback tag", Status(410), tag),
        row("no referrers API (501)", "fallback tag", Status(501), tag),
        row("referrers API redirects to another host (303)", "fallback tag", Elsewhere, tag),
        row("200 with a page for people", "fallback tag", Page, tag),
        row("200 with an empty list", "fallback tag", Mode(Referrers::Empty), tag),
        row("no referrers API (404)", "fallback tag, of OCI's empty type", ABSENT, FallbackTag(OCI_EMPTY)),
        row(
            "200 with an empty list",
            "fallback tag, of OCI's empty type",
            Mode(Referrers::Empty),
            FallbackTag(OCI_EMPTY),
        ),
        row("no referrers API (404)", "legacy `.sig`", ABSENT, sig),
        row("200 with an empty list", "legacy `.sig`", Mode(Referrers::Empty), sig),
        row("referrers API redirects to another host (303)", "legacy `.sig`", Elsewhere, sig),
        row("referrers API", "an SBOM alone, no signature beside it", LISTED, bundle).asking(Sbom),
        row("no referrers API (404)", "an SBOM alone, under the fallback tag", ABSENT, tag).asking(Sbom),
        row("no referrers API (404)", "an SBOM as legacy `.att`", ABSENT, sig).asking(Sbom),
        row("referrers API", "an SBOM as legacy `.att`, beside bundles of others", LISTED, LegacyTagBesideBundles)
            .asking(Sbom),
        row("referrers API", "a bundle on an image of Docker's types", LISTED, bundle).of(Docker),
        row("referrers API", "a bundle on the index", LISTED, bundle).of(Index(&["linux/arm64", "linux/amd64"])),
        row("referrers API", "bundles on the children alone", LISTED, bundle)
            .of(Children(&["linux/arm64", "linux/amd64"])),
        row("no referrers API (404)", "fallback tags of the children alone", ABSENT, tag)
            .of(Children(&["linux/arm64", "linux/amd64"])),
        row("no referrers API (404)", "legacy `.sig` of the children alone", ABSENT, sig)
            .of(Children(&["linux/arm64", "linux/amd64"])),
        row("referrers API", "a bundle on an index with arm64 alone", LISTED, bundle).of(Index(&["linux/arm64"])),
        row("referrers API", "a bundle on the child of an index with arm64 alone", LISTED, bundle)
            .of(Children(&["linux/arm64"])),
        row("referrers API", "bundles on the children, beside a build's attestations", LISTED, bundle)
            .of(Children(&["unknown/unknown", "linux/amd64"])),
    ]
}
