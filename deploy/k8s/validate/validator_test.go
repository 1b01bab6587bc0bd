// Package validate renders what is in deploy/k8s and checks it without a
// cluster. It is a module of its own: nothing else needs these libraries.
package validate

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kubectl-validate/pkg/openapiclient"
	"sigs.k8s.io/kubectl-validate/pkg/validator"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// kubernetes is the newest version whose schemas the validator has with it.
const kubernetes = "1.30"

// render is what `kubectl kustomize` prints of a directory.
func render(t *testing.T, directory string) resmap.ResMap {
	t.Helper()
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join("..", directory))
	require.NoError(t, err)
	return rendered
}

// newValidator knows the schemas of Kubernetes and of what the overlays use
// beside it. It must not be used by two at a time.
func newValidator(t *testing.T) *validator.Validator {
	t.Helper()
	rabbitmq := os.Getenv("LOVAGE_CRDS")
	if rabbitmq == "" {
		rabbitmq = "crds"
	}
	v, err := validator.New(openapiclient.NewComposite(
		openapiclient.NewLocalCRDFiles(
			module(t, "github.com/kedacore/keda/v2@v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=", "config/crd/bases"),
			module(t, "github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=", "example/prometheus-operator-crd"),
			os.DirFS(rabbitmq),
		),
		openapiclient.NewOverlay(openapiclient.HardcodedPatchLoader(kubernetes), openapiclient.NewHardcodedBuiltins(kubernetes)),
	))
	require.NoError(t, err)
	return v
}

// module is a directory of a module in the module cache. Modules that are only
// read stay out of go.mod, where they would bring a thousand others.
func module(t *testing.T, path, sum, directory string) fs.FS {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", path).Output()
	require.NoError(t, err, "%s", out)
	var got struct{ Dir, Sum string }
	require.NoError(t, json.Unmarshal(out, &got))
	require.Equal(t, sum, got.Sum, path)
	return os.DirFS(filepath.Join(got.Dir, directory))
}

// check is what the server would say to a document.
func check(v *validator.Validator, document []byte) error {
	_, object, err := v.Parse(document)
	if err != nil {
		return err
	}
	return v.Validate(object)
}
