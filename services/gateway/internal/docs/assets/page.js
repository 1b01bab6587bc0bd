// Shows the OpenAPI document of this server. Nothing is fetched from elsewhere:
// validatorUrl would otherwise send the document to a site of the makers.
window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: false,
  validatorUrl: null,
});
