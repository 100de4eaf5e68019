//! Networks that no registry may be in: the API server's addresses, and the range of services.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::{discovery::v1::EndpointSlice, networking::v1::ServiceCIDR};
use kube::{Api, Client, api::ListParams};

/// Address of the API server's service.
const API_SERVER: &str = "KUBERNETES_SERVICE_HOST";
/// Slice of the API server's addresses, in the namespace `default`.
const SLICE: &str = "kubernetes";
const TIMEOUT: Duration = Duration::from_secs(5);

/// All that can be known, sorted: addresses and CIDRs. What can't be read is left out and said.
pub async fn denied(client: &Client) -> Vec<String> {
    let mut denied: BTreeSet<String> =
        std::env::var(API_SERVER).ok().filter(|address| !address.is_empty()).into_iter().collect();
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    match within(slices.get_opt(SLICE)).await {
        Ok(slice) => denied.extend(slice.into_iter().flat_map(|slice| slice.endpoints).flat_map(|e| e.addresses)),
        Err(error) => {
            tracing::warn!(error, "the API server's addresses are not known: registries are not kept from them");
        }
    }
    let ranges: Api<ServiceCIDR> = Api::all(client.clone());
    match within(ranges.list(&ListParams::default())).await {
        Ok(ranges) => denied.extend(ranges.items.into_iter().filter_map(|range| range.spec?.cidrs).flatten()),
        Err(error) => tracing::warn!(error, "the range of services is not known: registries are not kept from it"),
    }
    denied.into_iter().collect()
}

async fn within<T>(read: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(TIMEOUT, read).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
