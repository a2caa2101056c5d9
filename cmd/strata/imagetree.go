package main

import (
	"fmt"
	"strings"

	"strata/internal/oci"
	"strata/layerstore"
)

// treeNode is a layer in the tree that images --tree shows: on top of the layers
// that lead to it from the root. The root is no layer.
type treeNode struct {
	Layer     string      `json:"layer,omitempty"` // diffID
	FileBytes int64       `json:"fileBytes"`       // of the layer
	Below     int         `json:"imageCount"`      // how many images stand on it, or are it
	Images    []imageJSON `json:"images"`          // those whose topmost layer it is
	Layers    []*treeNode `json:"layers"`          // those that stand directly on it
}

// growTree makes the tree of all images' layers, in the order in which they came.
func growTree(u layerstore.Usage) *treeNode {
	bytes := map[oci.DiffID]int64{}
	for _, l := range u.Layers {
		bytes[l.DiffID] = l.FileBytes
	}
	root := &treeNode{Images: []imageJSON{}, Layers: []*treeNode{}}
	for i, img := range u.Images {
		at := root
		at.Below++
		for _, d := range img.Image.Layers {
			at = at.child(d, bytes[d])
			at.Below++
		}
		at.Images = append(at.Images, imagesJSON(u.Images[i:i+1])...)
	}
	return root
}

// child is the layer d on top of n, a new one if there is none yet.
func (n *treeNode) child(d oci.DiffID, bytes int64) *treeNode {
	for _, c := range n.Layers {
		if c.Layer == string(d) {
			return c
		}
	}
	c := &treeNode{Layer: string(d), FileBytes: bytes, Images: []imageJSON{}, Layers: []*treeNode{}}
	n.Layers = append(n.Layers, c)
	return c
}

func (p *program) printImageTree(root *treeNode, asJSON, whole bool) error {
	if asJSON {
		return p.printJSON(root)
	}
	for _, img := range root.Images { // of no layers
		if err := p.println(leafText(img)); err != nil {
			return err
		}
	}
	for _, n := range root.Layers {
		if err := p.printNode(n, "", "", whole); err != nil {
			return err
		}
	}
	return nil
}

// mostInARow is how many layers that nothing branches off from are shown one by
// one.
const mostInARow = 3

// printNode prints a layer behind first, and what stands on it behind rest. A
// branch is where something is shared by fewer than below.
func (p *program) printNode(n *treeNode, first, rest string, whole bool) error {
	row := []*treeNode{n}
	for len(n.Images) == 0 && len(n.Layers) == 1 {
		n = n.Layers[0]
		row = append(row, n)
	}
	for i, line := range rowText(row, whole) {
		if i > 0 {
			first = rest
		}
		if err := p.println(first + line); err != nil {
			return err
		}
	}
	left := len(n.Images) + len(n.Layers)
	branch := func() (first, further string) {
		if left--; left == 0 {
			return rest + "└─ ", rest + "   "
		}
		return rest + "├─ ", rest + "│  "
	}
	for _, img := range n.Images {
		first, _ := branch()
		if err := p.println(first + leafText(img)); err != nil {
			return err
		}
	}
	for _, c := range n.Layers {
		first, further := branch()
		if err := p.printNode(c, first, further, whole); err != nil {
			return err
		}
	}
	return nil
}

// rowText is a line for each layer, or one for all of many.
func rowText(row []*treeNode, whole bool) []string {
	var lines []string
	var sum int64
	for _, n := range row {
		lines = append(lines, layerText(n, whole))
		sum += n.FileBytes
	}
	if len(row) <= mostInARow || whole {
		return lines
	}
	top := row[len(row)-1]
	return []string{fmt.Sprintf("%d layers %s to %s  %s%s", len(row),
		oci.DiffID(row[0].Layer).Short(), oci.DiffID(top.Layer).Short(), size(sum), sharedText(top))}
}

func layerText(n *treeNode, whole bool) string {
	id := oci.DiffID(n.Layer).Short()
	if whole {
		id = n.Layer
	}
	return fmt.Sprintf("layer %s  %s%s", id, size(n.FileBytes), sharedText(n))
}

func sharedText(n *treeNode) string {
	if n.Below == 1 {
		return ""
	}
	return fmt.Sprintf(", shared by %d images", n.Below)
}

func leafText(img imageJSON) string {
	name := strings.Join(img.References, ", ")
	if name == "" {
		name = "<none> " + oci.Digest(img.ID).Short()
	}
	return fmt.Sprintf("image %s  %s, own %s", name, size(img.FileBytes), size(img.OwnBytes))
}
