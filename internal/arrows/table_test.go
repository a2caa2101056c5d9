package arrows

// room is one package and what its shipped files may import, other than the
// standard library and golang.org/x/sys.
type room struct {
	name string
	may  []string
	why  string
}

// rooms is the map. The lowest rooms stand first.
var rooms = []room{
	{"overlay/tree", nil,
		"the shape that all others share knows nothing of them"},
	{"overlay", []string{"overlay/tree"},
		"one upper over one tree, wherever the tree comes from and whoever looks at it"},
	{"internal/inflate", nil,
		"decompresses whatever bytes it is given"},
	{"internal/oci", []string{"internal/inflate"},
		"what comes from the outside world is read without knowing what becomes of it"},
	{"layerstore", []string{"overlay/tree", "internal/oci", "internal/inflate"},
		"layers are trees; store and overlay do not know each other"},
	{"fusefs", []string{"overlay", "overlay/tree"},
		"translates between the kernel and the overlay, and decides nothing"},
	{"internal/container", []string{"layerstore", "overlay", "overlay/tree", "fusefs", "internal/oci"},
		"introduces store, overlay and kernel to each other"},
	{"internal/build", []string{"internal/container", "internal/oci", "layerstore", "overlay", "overlay/tree"},
		"builds in containers"},
	{"internal/hub", []string{"internal/oci"},
		"a registry serves blobs, and never looks into layers"},
	{"internal/lab", []string{"internal/container", "layerstore", "overlay", "overlay/tree", "internal/oci"},
		"lessons use containers as people do"},
	{"bench", []string{"internal/container", "layerstore", "overlay", "overlay/tree", "internal/oci", "fusefs"},
		"measures what is there from outside, and leaves no mount behind"},
	{"cmd/strata", []string{
		"overlay/tree", "overlay", "internal/oci", "layerstore", "fusefs", "internal/container",
		"internal/build", "internal/hub", "internal/lab", "bench", "testdata",
	}, "the command joins everything; testdata holds the images of its demo"},
	{"testdata", nil,
		"writes images by itself, so that what reads them is not its own judge"},
	{"internal/need", nil,
		"any test may use it"},
	{"internal/histories", []string{"overlay/tree"},
		"plays histories for the tests of overlay and fusefs, and is judge of both; a tree file may be the lower"},
	{"internal/arrows", nil,
		"looks at the code from outside"},
}

// outside lists the modules from outside and the only rooms that may know them.
var outside = []struct {
	module string
	rooms  []string
	why    string
}{
	{"github.com/hanwen/go-fuse", []string{"fusefs"},
		"the FUSE library can be exchanged in one place"},
	{"github.com/google/go-containerregistry", []string{"internal/oci"},
		"image libraries stay in one room"},
	{"github.com/opencontainers/image-spec", []string{"internal/oci"},
		"image libraries stay in one room"},
	{"github.com/opencontainers/go-digest", []string{"internal/oci"},
		"image libraries stay in one room; Digest, DiffID and ChainID are types of ours"},
	{"github.com/distribution/reference", []string{"internal/oci"},
		"image libraries stay in one room"},
	{"github.com/docker/cli/cli/config", []string{"internal/oci"},
		"credentials are kept where docker keeps them, by its own code"},
	{"github.com/klauspost/compress", []string{"internal/oci", "layerstore", "internal/inflate"},
		"archives and layers are compressed; inflate is measured beside it"},
	{"github.com/google/renameio", []string{"layerstore", "internal/container", "cmd/strata"},
		"what keeps things on disk replaces files in one step"},
	{"golang.org/x/sync", []string{"internal/oci", "layerstore", "internal/container"},
		"work in parallel that ends together"},
	{"github.com/urfave/cli", []string{"cmd/strata"},
		"flags are the command's business"},
	{"github.com/jedib0t/go-pretty", []string{"cmd/strata"},
		"output is the command's business"},
	{"github.com/vbauerster/mpb", []string{"cmd/strata"},
		"output is the command's business"},
	{"github.com/docker/go-units", []string{"cmd/strata"},
		"output is the command's business"},
	{"github.com/xrash/smetrics", []string{"cmd/strata"},
		"hints are the command's business"},
	{"golang.org/x/tools/txtar", []string{"testdata"},
		"the images are text"},
}

// forTests are the rooms and modules that test files of any room may import.
var forTests = []string{
	"strata/testdata",
	"strata/internal/need",
	"strata/internal/histories",
	"github.com/google/go-cmp",
	"github.com/google/go-containerregistry/pkg/registry", // a registry in the test's own process
	"github.com/rogpeppe/go-internal",
	"golang.org/x/tools/txtar",
	"golang.org/x/sync",
	"pgregory.net/rapid",
}

// topLevel is all that may stand in the root beside dotfiles. A further folder
// would be a further part of the program that the map does not have.
var topLevel = []string{
	"README.md", "bench", "cmd", "fusefs", "go.mod", "go.sum", "internal", "layerstore", "overlay", "testdata",
}
