//! Label selectors.

use std::collections::BTreeMap;

use zastava_crds::policy::LabelSelector;

/// Whether a selector selects these labels; an absent or empty one selects all, an operator nobody knows selects none.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(selector) = selector else { return true };
    let exact = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let values = requirement.values.as_deref().unwrap_or_default();
            match requirement.operator.as_str() {
                "In" => value.is_some_and(|value| values.contains(value)),
                "NotIn" => value.is_none_or(|value| !values.contains(value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requirements_mean_what_kubernetes_means() {
        let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let check = |selector: serde_json::Value| {
            let selector: LabelSelector = serde_json::from_value(selector).unwrap();
            selects(Some(&selector), &labels)
        };
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        assert!(selects(None, &labels) && check(json!({})));
        assert!(check(json!({"matchLabels": {"app": "web"}})) && !check(json!({"matchLabels": {"app": "db"}})));
        assert!(check(expression("app", "In", &["web"])) && !check(expression("app", "In", &["db"])));
        assert!(!check(expression("app", "NotIn", &["web"])) && check(expression("tier", "NotIn", &["web"])));
        assert!(check(expression("app", "Exists", &[])) && !check(expression("tier", "Exists", &[])));
        assert!(check(expression("tier", "DoesNotExist", &[])) && !check(expression("app", "DoesNotExist", &[])));
        assert!(!check(expression("app", "Near", &["web"])));
    }
}
