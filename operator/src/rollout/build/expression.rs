//! Expressions (CEL) that the API server evaluates about a pod or a workload's template.
//!
//! All of them are total: each step is guarded by `has()`, because an error rejects the request or skips the webhook.
//! For the same reason those that decide whether a webhook is asked stay below the API server's bound on their cost
//! (1,000,000 for one expression), whatever a request holds: what is large is not looked at here, it is asked about.
//! Those of the guard ([`images_of_pod`]) have no such bound: it fails closed, so one that costs too much refuses.

use std::fmt::Write as _;

use zastava_crds::policy::LabelSelector;

/// Images of one object, of all its lists together, that are looked at by an expression at most; a webhook refuses to
/// judge more anyhow. One reference costs up to 1586 for its form and about as much again for many long globs.
const MAX_IMAGES: usize = 256;

/// Entries of one list that are compared with those before at most.
const MAX_COMPARED: usize = 2048;

/// Where a pod's spec is, in a pod, a template's owner and a CronJob.
const PODS: [&str; 3] = ["spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec"];

/// The lists of a pod's spec that name images.
const LISTS: [List; 4] = [
    List { field: "containers", called: "container", image: "image" },
    List { field: "initContainers", called: "init container", image: "image" },
    List { field: "ephemeralContainers", called: "ephemeral container", image: "image" },
    List { field: "volumes", called: "image volume", image: "image.reference" },
];

/// A list of a pod's spec that names images.
struct List {
    field: &'static str,
    called: &'static str,
    image: &'static str,
}

/// One list in one object, with the guards that make it safe to read.
struct Place {
    path: String,
    guard: String,
}

impl List {
    fn at(&self, root: &str, pod: &str) -> Place {
        let (path, guard) = guarded(root, pod.split('.').chain([self.field]));
        Place { path, guard }
    }

    /// The reference of an entry `c`, and what makes it safe to read.
    fn reference(&self) -> (String, String) {
        guarded("c", self.image.split('.'))
    }

    fn lists() -> impl Iterator<Item = (&'static str, &'static Self)> {
        PODS.into_iter().flat_map(|pod| LISTS.iter().map(move |list| (pod, list)))
    }
}

fn guarded<'a>(root: &str, steps: impl Iterator<Item = &'a str>) -> (String, String) {
    let mut path = root.to_owned();
    let guards: Vec<_> = steps
        .map(|step| {
            path = format!("{path}.{step}");
            format!("has({path})")
        })
        .collect();
    (path, guards.join(" && "))
}

/// Whether a request brings in an image: an update that changes none never leaves the API server, so that with the
/// webhook dead Jobs still finish and namespaces still go.
pub(super) fn images_changed() -> String {
    let mut any = vec!["request.operation != 'UPDATE'".to_owned(), "oldObject == null".to_owned()];
    for (pod, list) in List::lists() {
        let (Place { path: new, guard }, Place { path: old, guard: old_guard }) =
            (list.at("object", pod), list.at("oldObject", pod));
        let (image, has_image) = list.reference();
        // Lists of two instead of joined texts: their comparison costs the same however long a text is.
        let entry = format!("c, {has_image} ? [c.name, {image}] : [c.name]");
        any.push(format!(
            "({guard} && (!({old_guard}) || size({new}) != size({old}) || size({new}) > {MAX_COMPARED} \
             || {new}.map({entry}) != {old}.map({entry})))"
        ));
    }
    any.join(" || ")
}

/// Whether `is`, an expression on a reference `r`, holds for any image of the object; what holds too many is taken for
/// one where it does.
pub(super) fn any_image(is: &str) -> String {
    // Their sum: as many in each of three lists would cost more than the API server grants, and the webhook be skipped.
    let sizes: Vec<_> = List::lists()
        .map(|(pod, list)| {
            let Place { path, guard } = list.at("object", pod);
            format!("({guard} ? size({path}) : 0)")
        })
        .collect();
    let references: Vec<_> = List::lists()
        .map(|(pod, list)| {
            let Place { path, guard } = list.at("object", pod);
            let (image, has_image) = list.reference();
            format!("({guard} ? {path}.map(c, {has_image}, {image}) : [])")
        })
        .collect();
    format!("{} > {MAX_IMAGES} || ({}).exists(r, {is})", sizes.join(" + "), references.join(" + "))
}

/// The images of the pod `root` for which `is`, an expression on a reference `r`, holds: `{at, image}` each, where `at`
/// is such as `container app`. However many there are: only for what fails closed, where too high a cost refuses.
pub(super) fn images_of_pod(root: &str, is: &str) -> String {
    let lists: Vec<_> = LISTS
        .iter()
        .map(|list| {
            let Place { path, guard } = list.at(root, PODS[0]);
            let (image, has_image) = list.reference();
            let called = text(&format!("{} ", list.called));
            format!(
                "({guard} ? {path}.filter(c, {has_image} && [{image}].all(r, {is}))\
                 .map(c, {{'at': {called} + c.name, 'image': string({image})}}) : [])"
            )
        })
        .collect();
    lists.join(" + ")
}

/// A text as a literal.
pub(super) fn text(value: &str) -> String {
    let mut literal = String::from("'");
    for c in value.chars() {
        match c {
            '\\' | '\'' => literal.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(literal, "\\u{:04x}", u32::from(c));
            }
            c => literal.push(c),
        }
    }
    literal.push('\'');
    literal
}

/// Texts as a literal list.
pub(super) fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let values: Vec<_> = values.into_iter().map(text).collect();
    format!("[{}]", values.join(", "))
}

/// Whether a selector matches `labels`, an expression that gives a map.
pub(super) fn selects(selector: &LabelSelector, labels: &str) -> String {
    let mut all = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        let key = text(key);
        all.push(format!("({key} in {labels} && {labels}[{key}] == {})", text(value)));
    }
    for requirement in selector.match_expressions.iter().flatten() {
        let key = text(&requirement.key);
        let values = || texts(requirement.values.iter().flatten().map(String::as_str));
        all.push(match requirement.operator.as_str() {
            "In" => format!("({key} in {labels} && {labels}[{key}] in {})", values()),
            "NotIn" => format!("!({key} in {labels} && {labels}[{key}] in {})", values()),
            "Exists" => format!("({key} in {labels})"),
            "DoesNotExist" => format!("!({key} in {labels})"),
            // No policy with another one is in force.
            _ => "false".to_owned(),
        });
    }
    if all.is_empty() { "true".to_owned() } else { all.join(" && ") }
}
