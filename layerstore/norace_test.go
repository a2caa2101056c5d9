//go:build !race

package layerstore_test

const maxMemory = 100 << 20
