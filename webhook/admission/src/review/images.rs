//! The one iterator over everything in a pod that names an image. A field that is missing here is a bypass.

use std::collections::HashSet;

use serde_json::Value;

/// A field of a pod's spec that names images.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, strum::Display, strum::EnumIter,
)]
pub enum ImageField {
    /// `containers[].image`.
    #[strum(serialize = "container")]
    Container,
    /// `initContainers[].image`, sidecars among them.
    #[strum(serialize = "init container")]
    InitContainer,
    /// `ephemeralContainers[].image`, on the pod and through its subresource.
    #[strum(serialize = "ephemeral container")]
    EphemeralContainer,
    /// `volumes[].image.reference`.
    #[strum(serialize = "image volume")]
    Volume,
}

impl ImageField {
    const ALL: [Self; 4] = [Self::Container, Self::InitContainer, Self::EphemeralContainer, Self::Volume];

    /// The list in a pod's spec, and the reference in each of its entries.
    const fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Container => ("containers", "/image"),
            Self::InitContainer => ("initContainers", "/image"),
            Self::EphemeralContainer => ("ephemeralContainers", "/image"),
            Self::Volume => ("volumes", "/image/reference"),
        }
    }
}

/// One image that a pod names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageUse {
    /// Where it is named.
    pub field: ImageField,
    /// Name of the container or volume.
    pub container: String,
    /// As written.
    pub reference: String,
    /// JSON pointer to the reference, from the root of the object.
    pub pointer: String,
}

/// Every image that the pod at `pod_at` (a JSON pointer) of `object` names, in the order of the spec.
///
/// An empty or absent reference is no image: the API server refuses it on pods, and fills it in nowhere else.
pub fn of<'a>(object: &'a Value, pod_at: &'a str) -> impl Iterator<Item = ImageUse> + 'a {
    ImageField::ALL.into_iter().flat_map(move |field| {
        let (list, reference) = field.place();
        let at = format!("{pod_at}/spec/{list}");
        let entries = object.pointer(&at).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        entries.iter().enumerate().filter_map(move |(i, entry)| {
            let text = entry.pointer(reference)?.as_str().filter(|text| !text.is_empty())?;
            Some(ImageUse {
                field,
                container: entry.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
                reference: text.to_owned(),
                pointer: format!("{at}/{i}{reference}"),
            })
        })
    })
}

/// Those of `new` whose (field, container, reference) is not among `old`.
pub fn changed(new: Vec<ImageUse>, old: &[ImageUse]) -> Vec<ImageUse> {
    let known: HashSet<_> = old.iter().map(|u| (u.field, u.container.as_str(), u.reference.as_str())).collect();
    new.into_iter().filter(|u| !known.contains(&(u.field, u.container.as_str(), u.reference.as_str()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({"spec": {
            "initContainers": [{"name": "init", "image": "r/init:1"}],
            "containers": [{"name": "app", "image": "r/app:1"}, {"name": "none"}, {"name": "empty", "image": ""}],
            "ephemeralContainers": [{"name": "debug", "image": "r/debug:1"}],
            "volumes": [{"name": "tmp", "emptyDir": {}}, {"name": "data", "image": {"reference": "r/data:1"}}],
        }})
    }

    #[test]
    fn every_field_is_seen_with_the_pointer_to_it() {
        let pod = pod();
        let uses: Vec<_> = of(&pod, "").collect();
        let seen: Vec<_> = uses.iter().map(|u| (u.field, u.container.as_str(), u.reference.as_str())).collect();
        assert_eq!(
            seen,
            [
                (ImageField::Container, "app", "r/app:1"),
                (ImageField::InitContainer, "init", "r/init:1"),
                (ImageField::EphemeralContainer, "debug", "r/debug:1"),
                (ImageField::Volume, "data", "r/data:1"),
            ]
        );
        for image in uses {
            assert_eq!(pod.pointer(&image.pointer).and_then(Value::as_str), Some(image.reference.as_str()));
        }
    }

    #[test]
    fn a_change_is_a_new_field_container_or_reference_and_nothing_else() {
        let old: Vec<_> = of(&pod(), "").collect();
        let mut object = pod();
        object["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert!(changed(of(&object, "").collect(), &old).is_empty());
        // The same reference under another container is a new use of it.
        object["spec"]["containers"][0]["name"] = json!("other");
        object["spec"]["volumes"][1]["image"]["reference"] = json!("r/data:2");
        let changed = changed(of(&object, "").collect(), &old);
        let seen: Vec<_> = changed.iter().map(|u| (u.container.as_str(), u.reference.as_str())).collect();
        assert_eq!(seen, [("other", "r/app:1"), ("data", "r/data:2")]);
    }
}
