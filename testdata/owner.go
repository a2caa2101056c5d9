package testdata

// SetOwner gives everything that the text of the images makes to one owner.
// Directories that the text does not mention keep 0:0.
func SetOwner(images []*Image, uid, gid int) {
	for _, img := range images {
		for _, l := range img.Layers {
			for _, e := range l.entries {
				e.uid, e.gid = uid, gid
			}
		}
	}
}
