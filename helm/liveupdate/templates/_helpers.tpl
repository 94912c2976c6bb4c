{{/*
Names are fixed and not made of the release's: kinds, policy and admission policies are the cluster's, so that there
is one liveupdate in a cluster, and documents can name its parts.
*/}}

{{- define "liveupdate.labels" -}}
app.kubernetes.io/name: liveupdate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* What a selector may hold: it can never change. */}}
{{- define "liveupdate.selector" -}}
app.kubernetes.io/name: liveupdate
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "liveupdate.image" -}}
{{- $image := index .root.Values.images .which -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "liveupdate.imagePullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Of every pod that is not the agent: no user, no right, no file of its own. */}}
{{- define "liveupdate.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "liveupdate.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* What only the whole of the values can be wrong in; the schema sees the rest. */}}
{{- define "liveupdate.check" -}}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.podMonitor and monitoring.serviceMonitor are both enabled: every metric would be counted twice; enable one" -}}
{{- end -}}
{{- if and (eq .Values.tls.mode "existingSecret") (not .Values.tls.existingSecret.name) -}}
{{- fail "tls.mode is existingSecret and tls.existingSecret.name is empty: name the Secret with ca.crt, tls.crt and tls.key of the controller" -}}
{{- end -}}
{{- if and (eq .Values.tls.mode "certManager") (not .Values.tls.certManager.issuerRef.name) -}}
{{- fail "tls.mode is certManager and tls.certManager.issuerRef.name is empty: name the issuer of the controller's certificate" -}}
{{- end -}}
{{- if eq .Values.tls.mode "podCertificate" -}}
{{- if not .Values.tls.podCertificate.signerName -}}
{{- fail "tls.mode is podCertificate and tls.podCertificate.signerName is empty: name the signer that writes liveupdate's names into certificates (docs/install.md says which)" -}}
{{- end -}}
{{- if not .Values.tls.podCertificate.trustConfigMap -}}
{{- fail "tls.mode is podCertificate and tls.podCertificate.trustConfigMap is empty: name the ConfigMap of this namespace whose ca.crt has the signer's CA" -}}
{{- end -}}
{{- if semverCompare "<1.37.0-0" .Capabilities.KubeVersion.Version -}}
{{- fail (printf "tls.mode is podCertificate and this is Kubernetes %s: such volumes are there from 1.37 on; choose another tls.mode" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.bundles.signers (not .Values.keeper.install) -}}
{{- fail "bundles.signers has keys and keeper.install is false: nobody would put them on nodes; have your images of nodes bring them (/etc/liveupdate/signers/NAME.pub)" -}}
{{- end -}}
{{- if and .Values.agent.registry.ca .Values.agent.registry.caConfigMap -}}
{{- fail "agent.registry.ca and agent.registry.caConfigMap are both set: put all certificates into one of them" -}}
{{- end -}}
{{- if eq (int .Values.controller.port) (int .Values.controller.adminPort) -}}
{{- fail "controller.port and controller.adminPort are the same: one process cannot listen twice at one port" -}}
{{- end -}}
{{- range $part := list "controller" "agent" -}}
{{- range $key, $_ := (index $.Values $part).podLabels -}}
{{- if has $key (list "app.kubernetes.io/name" "app.kubernetes.io/component") -}}
{{- fail (printf "%s.podLabels has %s: pods are selected by that label; leave it out" $part $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $kind := list "seccompProfile" "appArmorProfile" -}}
{{- with index $.Values.agent $kind -}}
{{- if and (eq .type "Localhost") (not .localhostProfile) -}}
{{- fail (printf "agent.%s.type is Localhost and agent.%s.localhostProfile is empty: name the profile on nodes" $kind $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range .Values.agent.machineArgs -}}
{{- if not (regexMatch "^[A-Za-z0-9_./:=,@*+-]+$" .) -}}
{{- fail (printf "agent.machineArgs has %q: the keeper's unit takes letters, digits and _./:=,@*+- alone; write one flag per item, as --name=value" .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.nodeCidrs) -}}
{{- fail "networkPolicy is enabled and networkPolicy.nodeCidrs is empty: no agent could knock; name the address ranges of your nodes" -}}
{{- end -}}
{{- end }}

{{/* Key and certificate that the kubelet gets for a pod and renews, and the CA that its peers must be of. */}}
{{- define "liveupdate.podCertificate" -}}
projected:
  defaultMode: 0440
  sources:
    - podCertificate:
        signerName: {{ .signerName }}
        keyType: {{ .keyType }}
        maxExpirationSeconds: {{ int .maxExpirationSeconds }}
        keyPath: tls.key
        certificateChainPath: tls.crt
    - configMap:
        name: {{ .trustConfigMap }}
        items:
          - {key: ca.crt, path: ca.crt}
{{- end }}

{{/* Annotations of what a hook needs and nobody else does. */}}
{{- define "liveupdate.hook" -}}
helm.sh/hook: {{ .hook }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded,hook-failed
{{- end }}
