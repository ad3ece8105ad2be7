"""The paper's four data sets, from what their owners hand out to a folder that trains."""
