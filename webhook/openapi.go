package webhook

import (
	_ "embed"
	"net/http"

	"github.com/labstack/echo/v4"
)

// openAPI is made by go test ./webhook -run TestTheDocument -update, out of the API's
// types, their comments and the table of operations in operations_test.go.
//
//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the OpenAPI 3.1 document of the API.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

func (s *Server) openAPI(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/json", openAPI)
}
