package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"strata/layerstore"
	"strata/overlay/tree"
)

// layerEntry is one entry of a layer's tree on its way from the process that
// serves a mount, as JSON. Parents come before what is in them. Names are bytes.
type layerEntry struct {
	Path     []byte       `json:"path"`
	Whiteout bool         `json:"whiteout,omitempty"`
	Implicit bool         `json:"implicit,omitempty"`
	Opaque   bool         `json:"opaque,omitempty"`
	Link     []byte       `json:"link,omitempty"` // another name of the inode that is called so; nothing follows
	Mode     uint32       `json:"mode,omitempty"` // as in st_mode
	UID      uint32       `json:"uid,omitempty"`
	GID      uint32       `json:"gid,omitempty"`
	Mtime    tree.Time    `json:"mtime"`
	Xattrs   []layerXattr `json:"xattrs,omitempty"`
	Target   []byte       `json:"target,omitempty"`
	Rdev     uint64       `json:"rdev,omitempty"`
	Size     int64        `json:"size,omitempty"`
	Digest   []byte       `json:"digest,omitempty"` // of contents that are an object
	File     tree.ID      `json:"file,omitempty"`   // of others: what to ask for with "open"
	End      bool         `json:"end,omitempty"`    // no entry: that was all
}

type layerXattr struct {
	Name  []byte `json:"name"`
	Value []byte `json:"value"`
}

// layer takes the upper and sends it, then opens files for as long as the client
// wants.
func (c *control) layer(conn net.Conn, out *json.Encoder) {
	layer, err := c.fs.Layer(c.ctx)
	if err != nil {
		out.Encode(refusal{err.Error()})
		return
	}
	defer layer.Close()
	buffered := bufio.NewWriterSize(conn, 64<<10)
	if err := sendLayer(json.NewEncoder(buffered), layer); err != nil {
		// If it is the connection's, nobody hears this either.
		json.NewEncoder(buffered).Encode(refusal{err.Error()})
		buffered.Flush()
		return
	}
	if buffered.Flush() != nil {
		return
	}
	unhook := context.AfterFunc(c.ctx, func() { conn.Close() }) // the mount does not wait for who reads files
	defer unhook()
	for in := bufio.NewReader(conn); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if sendFile(conn.(*net.UnixConn), layer, strings.TrimSpace(line)) != nil {
			return
		}
	}
}

func sendLayer(out *json.Encoder, t tree.Tree) error {
	first := map[tree.ID]string{}
	err := tree.Walk(t, func(path string, e tree.Entry, a *tree.Attr) error {
		l, err := layerEntryOf(t, path, e, a, first)
		if err != nil {
			return err
		}
		return out.Encode(l)
	})
	if err != nil {
		return err
	}
	return out.Encode(layerEntry{End: true})
}

// layerEntryOf describes one name. first has a name of each inode with several.
func layerEntryOf(t tree.Tree, path string, e tree.Entry, a *tree.Attr, first map[tree.ID]string) (l layerEntry, err error) {
	l = layerEntry{Path: []byte(path), Whiteout: e.Whiteout}
	if e.Whiteout {
		return l, nil
	}
	if !a.IsDir() && a.Nlink > 1 {
		if other, ok := first[e.ID]; ok {
			l.Link = []byte(other)
			return l, nil
		}
		first[e.ID] = path
	}
	meta, err := tree.MetaOf(t, e.ID, a)
	if err != nil {
		return l, err
	}
	for _, x := range meta.Xattrs {
		l.Xattrs = append(l.Xattrs, layerXattr{[]byte(x.Name), x.Value})
	}
	l.Mode, l.UID, l.GID, l.Mtime = a.Mode, a.UID, a.GID, a.Mtime
	l.Implicit, l.Rdev, l.Size = a.Implicit, a.Rdev, a.Size
	switch {
	case a.IsDir():
		l.Opaque, err = t.Opaque(e.ID)
	case a.IsSymlink():
		var target string
		target, err = t.Readlink(e.ID)
		l.Target = []byte(target)
	case a.IsRegular():
		var c tree.Content
		if c, err = t.Content(e.ID); c.Known {
			l.Digest = c.Digest[:]
		} else {
			l.File = e.ID
		}
	}
	return l, err
}

// sendFile answers "open ID": a line of JSON, and with it a descriptor unless
// that says why there is none.
func sendFile(conn *net.UnixConn, t tree.Tree, request string) error {
	var answer refusal
	var rights []byte
	f, err := openRequested(t, request)
	if err != nil {
		answer.Error = err.Error()
	} else {
		defer f.Close()
		rights = unix.UnixRights(int(f.Fd()))
	}
	line, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	_, _, err = conn.WriteMsgUnix(append(line, '\n'), rights, nil)
	return err
}

func openRequested(t tree.Tree, request string) (*os.File, error) {
	digits, ok := strings.CutPrefix(request, "open ")
	id, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil {
		return nil, fmt.Errorf("is served by a version of strata that does not understand %q", request)
	}
	return t.Open(tree.ID(id))
}

// servedLayer is the client's end.
type servedLayer struct {
	mu   sync.Mutex // one question at a time
	conn *net.UnixConn
}

// layer takes the upper of a mount, which stands on layers of the store.
func (s Served) layer(ctx context.Context, store *layerstore.Store) (*Layer, error) {
	conn, in, err := s.run.ask(ctx, s.key, "layer")
	if err != nil {
		return nil, fmt.Errorf("%s %w", s.what, err)
	}
	unhook := context.AfterFunc(ctx, func() { conn.Close() })
	client := &servedLayer{conn: conn.(*net.UnixConn)}
	b, err := client.receive(in, tree.NewBuilder(store))
	if err != nil {
		unhook()
		return nil, errors.Join(fmt.Errorf("%s %w", s.what, err), conn.Close())
	}
	return &Layer{Tree: b, close: []func() error{conn.Close, func() error { unhook(); return nil }}}, nil
}

// receive builds the tree that is sent.
func (s *servedLayer) receive(in *json.Decoder, b *tree.Builder) (*tree.Builder, error) {
	for {
		var l struct {
			layerEntry
			refusal
		}
		switch err := in.Decode(&l); {
		case err != nil:
			return nil, fmt.Errorf("was unmounted before it was done: %w", err)
		case l.Error != "":
			return nil, errors.New(l.Error)
		case l.End:
			return b, b.Finish()
		}
		if err := s.add(b, &l.layerEntry); err != nil {
			return nil, fmt.Errorf("sent what is no layer: %w", err)
		}
	}
}

func (s *servedLayer) add(b *tree.Builder, l *layerEntry) error {
	path := string(l.Path)
	meta := tree.Meta{Mode: l.Mode, UID: l.UID, GID: l.GID, Mtime: l.Mtime}
	for _, x := range l.Xattrs {
		meta.Xattrs = append(meta.Xattrs, tree.Xattr{Name: string(x.Name), Value: x.Value})
	}
	switch {
	case l.Whiteout:
		return b.AddWhiteout(path)
	case l.Link != nil:
		return b.AddLink(path, string(l.Link))
	}
	switch l.Mode & tree.ModeType {
	case tree.ModeDir:
		if !l.Implicit {
			if err := b.AddDir(path, meta); err != nil {
				return err
			}
		}
		if l.Opaque {
			return b.AddOpaque(path)
		}
		return nil // an implicit one comes with what is in it
	case tree.ModeRegular:
		if l.File != tree.None {
			return b.AddContent(path, meta, l.Size, func() (*os.File, error) { return s.open(path, l.File) })
		}
		if len(l.Digest) != len(tree.ObjectDigest{}) {
			return fmt.Errorf("%s: a digest of %d bytes", path, len(l.Digest))
		}
		return b.AddFile(path, meta, tree.ObjectDigest(l.Digest), l.Size)
	case tree.ModeSymlink:
		return b.AddSymlink(path, meta, string(l.Target))
	}
	return b.AddSpecial(path, meta, l.Mode&tree.ModeType, l.Rdev)
}

// open asks for a file's descriptor.
func (s *servedLayer) open(path string, id tree.ID) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := fmt.Fprintf(s.conn, "open %d\n", id); err != nil {
		return nil, err
	}
	line := make([]byte, 4<<10)
	rights := make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := s.conn.ReadMsgUnix(line, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("the mount ended before its contents were read: %w", err)
	}
	var answer refusal
	if err := json.Unmarshal(line[:n], &answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%s: no descriptor came (%w)", path, err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("%s: no descriptor came (%w)", path, err)
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), path), nil
}
