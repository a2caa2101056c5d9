package overlay

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// layersScript draws a script that makes lowers, base first.
func layersScript(pick func(n int) int) (script string, layers []string) {
	var b strings.Builder
	below := map[string]bool{} // what the layers below merge to
	for i := range 1 + pick(8) {
		l := fmt.Sprintf("layer%d", i)
		layers = append(layers, l)
		fmt.Fprintf(&b, "mkdir %s\n", l)
		is := map[string]byte{} // what the layer has at a path
		var files []string
		for range 4 + pick(14) {
			p := drawPath(pick)
			parents := []string{}
			fits := is[p] == 0
			for d := filepath.Dir(p); d != "."; d = filepath.Dir(d) {
				parents = append(parents, d)
				fits = fits && (is[d] == 0 || is[d] == 'd' || is[d] == 'o')
			}
			if !fits {
				continue
			}
			for _, d := range parents {
				if is[d] == 0 {
					is[d] = 'd'
				}
			}
			q := quoted(l + "/" + p)
			fmt.Fprintf(&b, "mkdir -p %s\n", quoted(l+"/"+filepath.Dir(p)))
			is[p] = 'f'
			switch k := pick(12); {
			case k < 4:
				size := pick(6000)
				fmt.Fprintf(&b, "printf %%%ds | tr ' ' %c > %s\n", size+1, 'A'+rune(pick(26)), q)
				files = append(files, q)
			case k == 4 && len(files) > 0, k == 5 && len(files) > 0:
				fmt.Fprintf(&b, "ln %s %s\n", files[pick(len(files))], q)
				continue
			case k == 6:
				fmt.Fprintf(&b, "ln -s /dev/null %s\n", q)
			case k == 7:
				fmt.Fprintf(&b, "mkfifo %s\n", q)
			case k >= 8 && k < 10 && below[p] && !slices.ContainsFunc(parents, func(d string) bool { return is[d] == 'o' }):
				// Where there is nothing to hide, overlayfs would list it.
				fmt.Fprintf(&b, "mknod %s c 0 0\n", q)
				is[p] = 'w'
				continue
			case k == 10 && i > 0:
				fmt.Fprintf(&b, "mkdir %s; setfattr -n trusted.overlay.opaque -v y %s\n", q, q)
				is[p] = 'o'
			default:
				fmt.Fprintf(&b, "mkdir %s\n", q)
				is[p] = 'd'
			}
			if pick(3) == 0 {
				fmt.Fprintf(&b, "chown -h %d:%d %s\n", pick(3), pick(3), q)
			}
			if is[p] == 'd' && pick(4) == 0 {
				fmt.Fprintf(&b, "chmod %o %s; setfattr -n user.one -v 1 %s\n", []int{0o2775, 0o1777, 0o700}[pick(3)], q, q)
			}
		}
		for p := range below {
			for d := p; d != "."; d = filepath.Dir(d) {
				if k := is[d]; k == 'w' || k == 'f' || k == 'o' && d != p {
					delete(below, p)
				}
			}
		}
		for p, k := range is {
			if k != 'w' {
				below[p] = true
			}
		}
	}
	b.WriteString("find . -exec touch -h -d '2001-02-03 04:05:06.789' {} +\n")
	return b.String(), layers
}
