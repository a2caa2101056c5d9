package bench

import (
	"context"
	"fmt"
	"path/filepath"

	"strata/internal/container"
	"strata/layerstore"
	"strata/overlay/tree"
)

// imageData checks an image out, layer by layer for those who stack them, and
// whole for those who copy.
func imageData(ctx context.Context, image StoredImage, dir string) (*Data, error) {
	store, err := layerstore.Open(image.Root, layerstore.Options{})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	found, err := store.Image(image.Reference)
	if err != nil {
		return nil, err
	}
	var layers []tree.Tree // base first
	var dirs []string
	for i, id := range found.Layers {
		l, err := store.Layer(id)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		layers = append(layers, l.Tree())
		dirs = append(dirs, filepath.Join(dir, fmt.Sprint("layer-", i)))
		if err := container.Checkout(ctx, layers, dirs[i]); err != nil {
			return nil, err
		}
	}
	merged := filepath.Join(dir, "0")
	if err := container.Checkout(ctx, []tree.Tree{tree.Stack(layers...)}, merged); err != nil {
		return nil, err
	}
	return &Data{Name: dataTree, Lower: container.TopmostFirst(dirs), Merged: merged, Image: &image}, nil
}
