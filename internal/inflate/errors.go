package inflate

import (
	"errors"
	"fmt"
)

var (
	// ErrHeader is the cause of an error if the input does not begin with a
	// gzip header, or if a member's header is malformed.
	ErrHeader = errors.New("no valid gzip header")

	// ErrJunk is the cause of an error if bytes follow the last member.
	ErrJunk = errors.New("what follows the last gzip member is not another one")

	// ErrChecksum is the cause of an error if a member does not hold what was
	// put into it.
	ErrChecksum = errors.New("the data is not what its checksum is of")
)

// CorruptError says that what a member holds is not in the deflate format.
type CorruptError struct {
	Offset  int64 // in the compressed stream, where it was seen
	Problem string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("deflate data near byte %d: %s", e.Offset, e.Problem)
}

// What can be wrong with deflate data.
const (
	badBlockType    = "a block of type 3, which does not exist"
	badStoredLength = "a stored block whose length does not match its complement"
	tooManyCodes    = "a block with more than 286 literal and length codes or 30 distance codes"
	badCodeLenCode  = "the codes for code lengths are no complete code"
	nothingToRepeat = "a code length repeated without one before it"
	tooManyCodeLens = "more code lengths than codes"
	noEndOfBlock    = "a block without a code for its end"
	badLitCode      = "the literal and length codes are no complete code"
	badDistCode     = "the distance codes are no complete code"
	noLitCode       = "bits that are no literal or length code"
	noDistCode      = "bits that are no distance code"
	tooFarBack      = "a distance that goes back behind the beginning"
)

func (z *Reader) corrupt(problem string) error {
	return &CorruptError{z.in.offset() - int64(z.nbits/8), problem}
}
