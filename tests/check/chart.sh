# shellcheck shell=bash disable=SC2154 # $work is of tests/check.sh
# Checks of the charts, sourced by tests/check.sh: lint, rendered variants against the API's schemas, and rules that a
# rendered release must keep. Needs $work, say, wrong and schemas.

# One way of installing a line: name | arguments of helm template.
chart_variants() {
  cat <<'LIST'
default|
digests|--set image.registry=registry.example:5000/prod,image.operator.digest=sha256:1111111111111111111111111111111111111111111111111111111111111111
break-glass|--set admission.enabled=false
no-network-policies|--set networkPolicy.enabled=false
no-crds|--set crds.install=false
own-namespace|--set namespace.create=true
monitored|--set metrics.podMonitor.enabled=true --set metrics.podMonitor.labels.team=a
keys|--set admission.keySecrets={cosign,other},admission.keyConfigMaps={roots}
pull-secrets|--set registries.pullSecrets.namespaces={shop,bank},image.pullSecrets={pull}
registries|--set registries.configured[0].host=registry.example:5000,registries.configured[0].plainHttp=true,registries.configured[0].pullSecret=mirror
mirrored|--set registries.configured[0].host=docker.io,registries.configured[0].mirror=harbor.example:8443/hub
clouds|--set registries.configured[0].host=123456789012.dkr.ecr.eu-west-1.amazonaws.com,registries.configured[0].credentials=ECR,registries.configured[1].host=gcr.io,registries.configured[1].credentials=GAR --set workloadIdentity.serviceAccountAnnotations.role=a --set-string workloadIdentity.podLabels.use=true
backend|--set backend.url=https://s.example:8443/zone,backend.project=shop,backend.auth.tokenSecret.name=backend
backend-certificate|--set backend.url=https://s.example,backend.project=shop,backend.auth.certificateSecret=client
placed|--set operator.nodeSelector.trusted=yes,admission.nodeSelector.trusted=yes,operator.tolerations[0].operator=Exists
LIST
}

# Values that must be refused: what the message must hold | arguments.
chart_refusals() {
  cat <<'LIST'
additional properties 'registr' not allowed|--set registr=x
additional properties 'replica' not allowed|--set operator.replica=3
maximum|--set admission.timeoutSeconds=31
/image/operator/digest|--set image.operator.digest=sha256:12
/crds|--set crds.keeep=true
/observer/namespace|--set observer.namespace=Bad_Name
/registries/configured/0/credentials|--set registries.configured[0].host=r.example,registries.configured[0].credentials=AWS
/registries/configured/0/mirror|--set registries.configured[0].host=r.example,registries.configured[0].mirror=https://m.example
/workloadIdentity/podLabels|--set workloadIdentity.podLabels.app\.kubernetes\.io/name=x
/backend/url|--set backend.url=http://s.example,backend.project=shop,backend.auth.tokenSecret.name=backend
/backend/project|--set backend.url=https://s.example,backend.auth.tokenSecret.name=backend
/backend/auth|--set backend.url=https://s.example,backend.project=shop
needs a namespace of its own|--set observer.namespace=zastava-system
LIST
}

render() { # arguments of helm template
  "$tools/helm" template zastava charts/zastava --namespace zastava-system "$@" 2>"$work/helm.err" || { cat "$work/helm.err" >&2; return 1; }
}

chart_checks() {
  local tools folder name arguments message
  tools=$(tests/e2e/tools/build.sh --quiet)
  folder=$(schemas)
  local bad=0

  "$tools/helm" lint --strict --quiet charts/zastava-crds charts/zastava >"$work/lint" 2>&1 || { cat "$work/lint" >&2; bad=1; }

  while IFS='|' read -r name arguments; do
    # shellcheck disable=SC2086 # a list of arguments
    if ! render $arguments >"$work/$name.yaml"; then say "variant $name does not render"; bad=1; continue; fi
    "$tools/kubeconform" -strict -skip PodMonitor -schema-location "$folder/{{.ResourceKind}}{{.KindSuffix}}.json" "$work/$name.yaml" >&2 ||
      { say "variant $name is not valid"; bad=1; }
    rules "$name" "$work/$name.yaml" || bad=1
  done < <(chart_variants)

  while IFS='|' read -r message arguments; do
    # shellcheck disable=SC2086
    if "$tools/helm" template zastava charts/zastava -n zastava-system $arguments >/dev/null 2>"$work/helm.err"; then
      say "values $arguments are accepted"; bad=1
    elif ! grep -qF -- "$message" "$work/helm.err"; then
      say "values $arguments are refused without saying \"$message\":"; cat "$work/helm.err" >&2; bad=1
    fi
  done < <(chart_refusals)

  # Nothing random, no time: GitOps would see a difference for ever.
  render | cmp - "$work/default.yaml" >&2 || { say "two renderings differ"; bad=1; }

  expect break-glass 'enabled: false' || bad=1
  expect digests 'registry.example:5000/prod/zastava/operator:0.1.0@sha256:1111' || bad=1
  expect own-namespace 'pod-security.kubernetes.io/enforce: restricted' || bad=1
  expect keys 'resourceNames: ["cosign","other"]' || bad=1
  expect pull-secrets 'namespace: bank' || bad=1
  expect registries '"host":"registry.example:5000"' || bad=1
  expect mirrored '"mirror":"harbor.example:8443/hub"' || bad=1
  expect clouds 'cidr: 169.254.170.23/32' || bad=1
  expect clouds 'cidr: 169.254.169.254/32' || bad=1
  refute default '169.254' || bad=1
  refute no-crds 'kind: CustomResourceDefinition' || bad=1
  refute no-network-policies 'kind: NetworkPolicy' || bad=1
  refute default 'kind: PodMonitor' || bad=1
  return $bad
}

expect() { grep -qF -- "$2" "$work/$1.yaml" || wrong "variant $1 does not hold: $2"; }
refute() { ! grep -qF -- "$2" "$work/$1.yaml" || wrong "variant $1 holds: $2"; }

# Rules of every rendered release.
rules() { # variant file
  local bad=0
  # A release that can be removed in any order has neither hooks nor finalizers.
  ! grep -nE 'helm.sh/hook|finalizers:$' "$2" >&2 || { say "variant $1: a hook or finalizer"; bad=1; }
  # No wildcard, no escalation, in any role.
  ! awk '/^kind: (Cluster)?Role$/ {role = 1} /^---/ {role = 0} role' "$2" |
    grep -nE "\"\\*\"|'\\*'|\\[\\*\\]|- \\*|\\b(escalate|bind|impersonate)\\b|nodes/proxy" >&2 || { say "variant $1: a role is too wide"; bad=1; }
  # The keys of Zastava are read by name.
  ! awk '/^kind: (Cluster)?Role$/ {role = 1; pull = 0} /^---/ {role = 0} /name: zastava-webhook-pull-secrets/ {pull = 1} role && !pull' "$2" |
    grep -A1 'resources: \[secrets\]' | grep -q 'verbs:' || { say "variant $1: secrets without resourceNames"; bad=1; }
  return $bad
}
