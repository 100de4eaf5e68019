{{/* Labels of every object of the chart; the argument is a dict of root and component. */}}
{{- define "zastava.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "zastava.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: zastava
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* Labels that select the pods of one component; the operator gives the same to what it renders. */}}
{{- define "zastava.selector" -}}
app.kubernetes.io/name: zastava
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Reference of an image; the argument is a dict of root and the name of a program. */}}
{{- define "zastava.image" -}}
{{- $image := index .root.Values.image .name -}}
{{ .root.Values.image.registry }}/{{ $image.repository }}:{{ default .root.Chart.AppVersion $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The exempt namespaces and our own two, sorted, each once. */}}
{{- define "zastava.exempt" -}}
{{- concat .Values.exemptNamespaces (list .Release.Namespace .Values.observer.namespace) | uniq | sortAlpha | toJson }}
{{- end }}

{{/* The user name of the operator's service account. */}}
{{- define "zastava.operatorUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:zastava-operator
{{- end }}

{{/* Egress to the cluster's DNS. */}}
{{- define "zastava.egress.dns" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{- /* Where the credentials of a cloud's registry come from: AWS's pod identity agent, Google's metadata server. */}}
{{- define "zastava.egress.identity" -}}
{{- $kinds := list }}
{{- range .Values.registries.configured }}{{ with .credentials }}{{ $kinds = append $kinds . }}{{ end }}{{ end }}
{{- if has "ECR" $kinds }}
- to:
    - ipBlock: {cidr: 169.254.170.23/32}
  ports:
    - {protocol: TCP, port: 80}
{{- end }}
{{- if has "GAR" $kinds }}
- to:
    - ipBlock: {cidr: 169.254.169.254/32}
    # Where GKE's data plane sends what is meant for the address above.
    - ipBlock: {cidr: 169.254.169.252/32}
  ports:
    - {protocol: TCP, port: 80}
    - {protocol: TCP, port: 988}
{{- end }}
{{- end }}


{{/* Egress to or ingress from a list of networks; the argument is a dict of cidrs, ports and way (to, from). */}}
{{- define "zastava.cidrs" -}}
- {{ .way }}:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{/* Ingress to the plain port of probes and metrics. */}}
{{- define "zastava.ingress.metrics" -}}
- ports:
    - {protocol: TCP, port: 8080}
  {{- with .Values.networkPolicy.metricsFrom }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
