# From the OpenAPI document of Kubernetes to JSON Schemas as kubeconform reads them: one line a schema, its file name, a
# tab, its text. Every kind refers into one file of definitions; unknown fields are refused, as server-side apply does.
def strict:
  walk(if type != "object" then .
    elif has("properties") and (has("additionalProperties") | not) then .additionalProperties = false
    elif .format? == "int-or-string" then {oneOf: [{type: "string"}, {type: "integer"}]}
    else . end);

.definitions
| .["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {oneOf: [{type: "string"}, {type: "number"}]}
| "_definitions.json\t\({definitions: strict} | tojson)",
  (to_entries[]
   | .key as $definition
   | (.value["x-kubernetes-group-version-kind"] // [])[]
   | ([.kind, (.group | split(".")[0] // empty), .version] | join("-") | ascii_downcase) as $file
   | "\($file).json\t\({"$ref": "_definitions.json#/definitions/\($definition)"} | tojson)")
