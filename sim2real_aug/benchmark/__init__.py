"""The paper's metrics for any editor: preservation, style and text, over images, instructions and photos."""
