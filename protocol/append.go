package protocol

import (
	"strconv"
)

// AppendRequest appends a request to dst and returns it, without a line end.
// params is a JSON object or array, or empty for none; line ends in it become
// spaces. The same holds for the functions below.
func AppendRequest(dst []byte, id int64, method string, params []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = strconv.AppendInt(dst, id, 10)
	dst = append(dst, `,"method":`...)
	dst = appendString(dst, method)
	return appendParams(dst, params)
}

// AppendNotification appends a notification.
func AppendNotification(dst []byte, method string, params []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":`...)
	dst = appendString(dst, method)
	return appendParams(dst, params)
}

func appendParams(dst, params []byte) []byte {
	if len(params) > 0 {
		dst = append(dst, `,"params":`...)
		dst = appendFlat(dst, params)
	}
	return append(dst, '}')
}

// AppendResult appends the answer to the request with this id, which is the
// token that the request had, byte for byte (P10). An empty result is written
// as {}.
func AppendResult(dst, id, result []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, id...)
	dst = append(dst, `,"result":`...)
	if len(result) == 0 {
		dst = append(dst, '{', '}')
	} else {
		dst = appendFlat(dst, result)
	}
	return append(dst, '}')
}

// AppendError appends an error response. An empty id, of a request that could
// not be read, is written as null.
func AppendError(dst, id []byte, e *Error) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	if len(id) == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = append(dst, id...)
	}
	dst = append(dst, `,"error":{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, e.Message)
	if len(e.Data) > 0 {
		dst = append(dst, `,"data":`...)
		dst = appendFlat(dst, e.Data)
	}
	return append(dst, '}', '}')
}
