package tree

import (
	"testing"

	"pgregory.net/rapid"
)

// Layers written as files show what their Builders do, and the chain made of
// the files, itself a file, shows what the model says.
func TestLayerAndChainFilesEqualModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var layers []Tree
		var models []*modelLayer
		for i := range rapid.IntRange(0, 5).Draw(rt, "layers") {
			b, m := build(rt, drawLayer(rt, i, false))
			f := throughFile(t, rt, b)
			if got, want := listTree(t, f), listTree(t, b); got != want {
				rt.Fatalf("layer %d is in its file\n%s\nand in the Builder\n%s", i, got, want)
			}
			layers, models = append(layers, f), append(models, m)
		}
		stack := Stack(layers...)
		chain := throughFile(t, rt, stack)
		if chain.Space() != stack.Space() {
			rt.Fatalf("the chain's file has space %+v, the stack %+v", chain.Space(), stack.Space())
		}
		if d := diffLines(describeTree(rt, chain), describeModel(mergeModel(models))); d != "" {
			rt.Fatalf("the chain's file differs from the model:%s", d)
		}
	})
}

func throughFile(t *testing.T, rt *rapid.T, source Tree) *File {
	t.Helper()
	f, err := newFile("tree", encodeTree(t, source), nil)
	if err != nil {
		rt.Fatal(err)
	}
	if err := f.Check(); err != nil {
		rt.Fatal(err)
	}
	return f
}

func TestFileBadCalls(t *testing.T) {
	b, _ := build(t, []layerOp{{do: "file", path: "f", target: "x"}, {do: "dir", path: "d"}})
	checkBadCalls(t, mustOpenBytes(t, encodeTree(t, b)))
}
